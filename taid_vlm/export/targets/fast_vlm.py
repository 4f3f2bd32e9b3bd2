"""FastVlm: a timm CNN's map, flattened, and two linear layers."""

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
from taid_vlm.export.targets.target import Native, Obstacle, Target
from taid_vlm.export.towers import convert_tower


def obstacles(facts: Facts) -> list[Obstacle]:
    """What keeps a student out of FastVlm."""
    found = usual_obstacles(facts, "fast_vlm")
    if facts.contract is None:
        return found
    found += tower_obstacle(facts, ("timm_wrapper",), "a timm CNN")
    if facts.contract.layout != "NCHW":
        found.append(Obstacle("it takes a map, the encoder gives tokens", "export to llava or deepseek_vl"))
    return found + square_obstacle(facts) + style_obstacle(facts, "plain")


def native(parts: Parts) -> Native:
    """The student as FastVlmForConditionalGeneration."""
    from transformers import FastVlmConfig

    facts = parts.facts
    assert facts.contract is not None
    assert parts.student.vision_encoder is not None
    vision, vision_state = convert_tower(parts.student.vision_encoder, "timm_wrapper")
    vision.hidden_size = facts.contract.feature_dim
    config = FastVlmConfig(
        vision_config=vision,
        text_config=text_config(parts),
        image_token_index=image_token_id(parts),
        image_seq_length=facts.contract.grid[0] * facts.contract.grid[1],
        tie_word_embeddings=tied(facts),
    )
    state = prefixed("model.vision_tower.", vision_state)
    state |= prefixed("model.multi_modal_projector.", projector_state(parts))
    state |= text_state(parts, "model.language_model.")
    return Native(config, state, llava_processor(parts, "full", 0))


FAST_VLM = Target("fast_vlm", "FastVlmForConditionalGeneration", obstacles, native)
