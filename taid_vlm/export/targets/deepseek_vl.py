"""DeepseekVL: any tower read after its last norm, class and register tokens included, and two linear layers."""

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.processors import llava_processor
from taid_vlm.export.targets.common import (
    image_token_id,
    prefixed,
    projector_state,
    square_obstacle,
    style_obstacle,
    text_config,
    text_state,
    tied,
    tower_obstacle,
    usual_obstacles,
)
from taid_vlm.export.targets.llava import TOWERS
from taid_vlm.export.targets.target import Native, Obstacle, Target
from taid_vlm.export.towers import convert_tower

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
    if facts.feature != "normed":
        found.append(Obstacle("it reads what comes after the last norm", "set vision_encoder.feature to normed"))
    if facts.contract.prefix_tokens != facts.prefix_tokens:
        found.append(
            Obstacle(
                f"it keeps all tokens, the student drops {facts.prefix_tokens} (class, registers)",
                "set vision_encoder.prefix_tokens to keep",
            )
        )
    return found + square_obstacle(facts) + style_obstacle(facts, "plain")


def native(parts: Parts) -> Native:
    """The student as DeepseekVLForConditionalGeneration."""
    from transformers import DeepseekVLConfig

    facts = parts.facts
    assert facts.contract is not None
    assert parts.student.vision_encoder is not None
    tower = next(name for name in facts.towers if name in TAKES)
    vision, vision_state = convert_tower(parts.student.vision_encoder, tower)
    vision.hidden_size = facts.contract.feature_dim  # the wrapper's config does not know it
    config = DeepseekVLConfig(
        vision_config=vision,
        text_config=text_config(parts),
        image_token_id=image_token_id(parts),
        tie_word_embeddings=tied(facts),
    )
    renamed = {name.replace("_", "", 1): tensor for name, tensor in projector_state(parts).items()}
    state = prefixed("model.vision_model.", vision_state)
    state |= prefixed("model.aligner.", renamed)  # linear1 rather than linear_1
    state |= text_state(parts, "model.language_model.")
    return Native(config, state, llava_processor(parts, "full", facts.prefix_tokens))


DEEPSEEK_VL = Target("deepseek_vl", "DeepseekVLForConditionalGeneration", obstacles, native)
