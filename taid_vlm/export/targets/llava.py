"""Llava: any transformers vision tower read before its last norm, and two linear layers."""

from typing import Literal

import torch
from torch import Tensor

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.processors import llava_processor
from taid_vlm.export.targets.common import (
    converted,
    feature_layer,
    image_token_id,
    native_state,
    picture_obstacles,
    projector_state,
    text_fields,
    tower_obstacle,
    usual_obstacles,
)
from taid_vlm.export.targets.target import Native, Obstacle, Target

# Towers that give hidden_states as [images, tokens, width]; a timm model in its wrapper gives maps.
TOWERS = (
    "siglip_vision_model",
    "clip_vision_model",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "vit",
    "aimv2_vision_model",
    "internvl_vision",
)
# Here the last hidden state is no other than the output of the last block.
LAST_IS_NORMED = ("clip_vision_model", "internvl_vision")


def obstacles(facts: Facts) -> list[Obstacle]:
    """What keeps a student out of Llava."""
    found = usual_obstacles(facts, "llava")
    if facts.contract is None:
        return found
    found += tower_obstacle(facts, TOWERS, "a transformers ViT, or a timm or open_clip one that converts to it")
    if facts.feature == "normed" and not _normed_is_last(facts):
        found.append(Obstacle("it reads a layer before the last norm", "set vision_encoder.feature to -1 or -2"))
    found += picture_obstacles(facts, "plain")
    if facts.contract.prefix_tokens == 0 and facts.prefix_tokens > 1:
        found.append(
            Obstacle(
                f"it can leave out one token before the grid, the encoder has {facts.prefix_tokens}",
                "set vision_encoder.prefix_tokens to keep",
            )
        )
    return found


def native(parts: Parts) -> Native:
    """The student as LlavaForConditionalGeneration."""
    from transformers import LlavaConfig

    facts = parts.facts
    assert facts.contract is not None
    vision, vision_state = converted(parts, TOWERS)
    drops = facts.prefix_tokens == 1 and facts.contract.prefix_tokens == 0
    strategy: Literal["default", "full"] = "default" if drops else "full"
    linear = facts.projector == "linear"
    config = LlavaConfig(
        vision_config=vision,
        image_token_index=image_token_id(parts),
        image_seq_length=facts.contract.tokens,
        projector_hidden_act="linear" if linear else "gelu",
        vision_feature_select_strategy=strategy,
        vision_feature_layer=feature_layer(facts),
        **text_fields(parts),
    )
    projector = _as_two_layers(projector_state(parts)) if linear else None
    state = native_state(parts, vision_state, projector)
    return Native(config, state, llava_processor(parts, strategy, facts.prefix_tokens))


def _normed_is_last(facts: Facts) -> bool:
    return any(tower in LAST_IS_NORMED for tower in facts.towers)


def _as_two_layers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    weight, bias = state["linear.weight"], state["linear.bias"]
    return {
        "linear_1.weight": weight,
        "linear_1.bias": bias,
        "linear_2.weight": torch.eye(len(weight), dtype=weight.dtype),  # changes nothing, bit for bit
        "linear_2.bias": torch.zeros_like(bias),
    }


LLAVA = Target("llava", "LlavaForConditionalGeneration", obstacles, native)
