"""FastVlm: a timm CNN's map, flattened, and two linear layers."""

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.processors import llava_processor
from taid_vlm.export.targets.common import (
    converted,
    image_token_id,
    native_state,
    picture_obstacles,
    text_fields,
    tower_obstacle,
    usual_obstacles,
)
from taid_vlm.export.targets.target import Native, Obstacle, Target


def obstacles(facts: Facts) -> list[Obstacle]:
    """What keeps a student out of FastVlm."""
    found = usual_obstacles(facts, "fast_vlm")
    if facts.contract is None:
        return found
    found += tower_obstacle(facts, ("timm_wrapper",), "a timm CNN")
    if facts.contract.layout != "NCHW":
        found.append(Obstacle("it takes a map, the encoder gives tokens", "export to llava or deepseek_vl"))
    return found + picture_obstacles(facts, "plain")


def native(parts: Parts) -> Native:
    """The student as FastVlmForConditionalGeneration."""
    from transformers import FastVlmConfig

    facts = parts.facts
    assert facts.contract is not None
    vision, vision_state = converted(parts, ("timm_wrapper",))
    vision.hidden_size = facts.contract.feature_dim
    config = FastVlmConfig(
        vision_config=vision,
        image_token_index=image_token_id(parts),
        image_seq_length=facts.contract.tokens,
        **text_fields(parts),
    )
    state = native_state(parts, vision_state)
    return Native(config, state, llava_processor(parts, "full", 0))


FAST_VLM = Target("fast_vlm", "FastVlmForConditionalGeneration", obstacles, native)
