"""SmolVLM: a SigLIP tower after its last norm, pixel shuffle and one linear map; the class that most runtimes know."""

from typing import Any

import torch
from torch import Tensor

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.processors import image_settings, stock_template, stock_tokenizer
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
from taid_vlm.models.tiling import longest_edge


def obstacles(facts: Facts) -> list[Obstacle]:
    """What keeps a student out of SmolVLM."""
    found = usual_obstacles(facts, "smolvlm")
    if facts.contract is None:
        return found
    found += tower_obstacle(facts, ("smolvlm_vision",), "a SigLIP encoder (no class token, learned positions)")
    if facts.feature != "normed":
        found.append(Obstacle("it reads what comes after the last norm", "set vision_encoder.feature to normed"))
    side = facts.contract.grid[0]
    if not positions_are_exact(side):
        found.append(
            Obstacle(
                f"it finds positions by rounding, which goes wrong in a grid of {side} x {side}",
                "choose another vision_encoder.image_size",
            )
        )
    return found + square_obstacle(facts) + style_obstacle(facts, "smolvlm", ("none", "split"))


def positions_are_exact(side: int) -> bool:
    """Whether the class gives each cell of a full grid its own position.

    It sorts the cells' fractions k / side into buckets with bounds k / side, both rounded in fp32; we try it.
    """
    bounds = torch.arange(1 / side, 1.0, 1 / side)
    fractions = (torch.arange(side, dtype=torch.float32) * (1.0 / torch.tensor(side))).clamp(max=1.0 - 1e-6)
    return torch.equal(torch.bucketize(fractions, bounds, right=True), torch.arange(side))


def native(parts: Parts) -> Native:
    """The student as SmolVLMForConditionalGeneration."""
    from transformers import SmolVLMConfig

    facts = parts.facts
    assert facts.contract is not None
    assert parts.student.vision_encoder is not None
    vision, vision_state = convert_tower(parts.student.vision_encoder, "smolvlm_vision")
    factor: Any = parts.student.projector.factor  # type: ignore[union-attr]
    config = SmolVLMConfig(
        vision_config=vision,
        text_config=text_config(parts),
        image_token_id=image_token_id(parts),
        scale_factor=factor,
        tie_word_embeddings=tied(facts),
    )
    state = prefixed("model.vision_model.", vision_state)
    state |= prefixed("model.connector.", projector_state(parts))
    state |= text_state(parts, "model.text_model.")
    tokens = facts.contract.grid[0] * facts.contract.grid[1] // factor**2
    return Native(config, state, smolvlm_processor(parts, tokens))


def pixel_inputs(pixel_values: Tensor, tiles_per_image: list[int], facts: Facts) -> dict[str, Tensor]:
    """``[1, tiles, 3, size, size]``: all tiles of one conversation."""
    return {"pixel_values": pixel_values.unsqueeze(0)}


def smolvlm_processor(parts: Parts, tokens: int) -> Any:
    """SmolVLMProcessor, with ``tokens`` placeholders for each tile."""
    from transformers import SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor

    facts = parts.facts
    assert facts.contract is not None
    assert facts.image_token is not None
    size = facts.contract.image.size
    split = facts.images.tiling == "split"
    settings = image_settings(facts)
    if split:
        settings["size"] = {"longest_edge": longest_edge(size, facts.images)}
    images = SmolVLMImageProcessor(
        **settings, max_image_size={"longest_edge": size}, do_image_splitting=split, do_pad=True
    )
    return SmolVLMProcessor(
        image_processor=images,
        # Its markers are not named: where the tokenizer has them as tokens they are tokens, otherwise text, as in training.
        tokenizer=stock_tokenizer(parts, image_token=facts.image_token),
        video_processor=SmolVLMVideoProcessor(**{**image_settings(facts), "size": {"longest_edge": size}}),
        image_seq_len=tokens,
        chat_template=stock_template(parts.processor.template, facts.image_token),
    )


SMOLVLM = Target("smolvlm", "SmolVLMForConditionalGeneration", obstacles, native, pixel_inputs)
