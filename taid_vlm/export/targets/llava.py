"""Llava: any transformers vision tower read before its last norm, and two linear layers."""

from typing import Literal

from torch import Tensor

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.processors import llava_processor
from taid_vlm.export.targets.common import (
    feature_layer,
    identity,
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
    if not facts.sees:
        return found
    found += tower_obstacle(facts, TOWERS, "a transformers ViT, or a timm or open_clip one that converts to it")
    if facts.feature == "normed" and not _normed_is_last(facts):
        found.append(Obstacle("it reads a layer before the last norm", "set vision_encoder.feature to -1 or -2"))
    found += square_obstacle(facts) + style_obstacle(facts, "plain")
    kept = facts.contract.prefix_tokens if facts.contract is not None else 0
    if kept == 0 and facts.prefix_tokens > 1:
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
    assert parts.student.vision_encoder is not None
    tower = next(name for name in facts.towers if name in TOWERS)
    vision, vision_state = convert_tower(parts.student.vision_encoder, tower)
    drops = facts.prefix_tokens == 1 and facts.contract.prefix_tokens == 0
    strategy: Literal["default", "full"] = "default" if drops else "full"
    linear = facts.projector == "linear"
    config = LlavaConfig(
        vision_config=vision,
        text_config=text_config(parts),
        image_token_index=image_token_id(parts),
        image_seq_length=facts.contract.grid[0] * facts.contract.grid[1] + facts.contract.prefix_tokens,
        projector_hidden_act="linear" if linear else "gelu",
        vision_feature_select_strategy=strategy,
        vision_feature_layer=feature_layer(facts),
        tie_word_embeddings=tied(facts),
    )
    projector = _as_two_layers(projector_state(parts)) if linear else projector_state(parts)
    state = prefixed("model.vision_tower.", vision_state)
    state |= prefixed("model.multi_modal_projector.", projector)
    state |= text_state(parts, "model.language_model.")
    return Native(config, state, llava_processor(parts, strategy, facts.prefix_tokens))


def _normed_is_last(facts: Facts) -> bool:
    return any(tower in LAST_IS_NORMED for tower in facts.towers)


def _as_two_layers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    weight, bias = state["linear.weight"], state["linear.bias"]
    second, zero = identity(len(weight), weight)
    return {
        "linear_1.weight": weight,
        "linear_1.bias": bias,
        "linear_2.weight": second,
        "linear_2.bias": zero,
    }


LLAVA = Target("llava", "LlavaForConditionalGeneration", obstacles, native)
