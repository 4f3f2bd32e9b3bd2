"""DeepseekVL: any tower read after its last norm, class and register tokens included, and two linear layers."""

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.processors import llava_processor
from taid_vlm.export.targets.common import (
    converted,
    image_token_id,
    native_state,
    normed_obstacle,
    picture_obstacles,
    projector_state,
    text_fields,
    tower_obstacle,
    usual_obstacles,
)
from taid_vlm.export.targets.llava import TOWERS
from taid_vlm.export.targets.target import Native, Obstacle, Target

# A tower of transformers' own rather than the wrapper: then the checkpoint needs no timm.
TAKES = (*TOWERS, "timm_wrapper")


def obstacles(facts: Facts) -> list[Obstacle]:
    """What keeps a student out of DeepseekVL."""
    found = usual_obstacles(facts, "deepseek_vl")
    if facts.contract is None:
        return found
    found += tower_obstacle(facts, TAKES, "a transformers or timm ViT")
    if facts.contract.layout != "NLC":
        found.append(Obstacle("it takes tokens, the encoder gives a map", "export to fast_vlm"))
    found += normed_obstacle(facts)
    if facts.contract.prefix_tokens != facts.prefix_tokens:
        found.append(
            Obstacle(
                f"it keeps all tokens, the student drops {facts.prefix_tokens} (class, registers)",
                "set vision_encoder.prefix_tokens to keep",
            )
        )
    return found + picture_obstacles(facts, "plain")


def native(parts: Parts) -> Native:
    """The student as DeepseekVLForConditionalGeneration."""
    from transformers import DeepseekVLConfig

    facts = parts.facts
    assert facts.contract is not None
    vision, vision_state = converted(parts, TAKES)
    vision.hidden_size = facts.contract.feature_dim  # the wrapper's config does not know it
    config = DeepseekVLConfig(
        vision_config=vision,
        image_token_id=image_token_id(parts),
        **text_fields(parts),
    )
    # linear1 rather than linear_1
    renamed = {name.replace("_", "", 1): tensor for name, tensor in projector_state(parts).items()}
    state = native_state(parts, vision_state, renamed, names=("vision_model", "aligner", "language_model"))
    return Native(config, state, llava_processor(parts, "full", facts.prefix_tokens))


DEEPSEEK_VL = Target("deepseek_vl", "DeepseekVLForConditionalGeneration", obstacles, native)
