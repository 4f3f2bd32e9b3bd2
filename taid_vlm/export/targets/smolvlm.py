"""SmolVLM: a SigLIP tower after its last norm, pixel shuffle and one linear map; the class that most runtimes know."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.processors import image_settings, stock_template, stock_tokenizer
from taid_vlm.export.targets.common import (
    converted,
    image_token_id,
    native_state,
    normed_obstacle,
    picture_obstacles,
    text_fields,
    tokens_per_tile,
    tower_obstacle,
    usual_obstacles,
)
from taid_vlm.export.targets.target import Native, Obstacle, Target
from taid_vlm.models.tiling import longest_edge


def obstacles(facts: Facts) -> list[Obstacle]:
    """What keeps a student out of SmolVLM."""
    found = usual_obstacles(facts, "smolvlm")
    if facts.contract is None:
        return found
    found += tower_obstacle(facts, ("smolvlm_vision",), "a SigLIP encoder (no class token, learned positions)")
    found += normed_obstacle(facts)
    side = facts.contract.grid[0]
    if not positions_are_exact(side):
        found.append(
            Obstacle(
                f"it finds positions by rounding, which goes wrong in a grid of {side} x {side}",
                "choose another vision_encoder.image_size",
            )
        )
    return found + picture_obstacles(facts, "smolvlm", ("none", "split"))


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
    vision, vision_state = converted(parts, ("smolvlm_vision",))
    config = SmolVLMConfig(
        vision_config=vision,
        image_token_id=image_token_id(parts),
        scale_factor=parts.student.projector.factor,  # type: ignore[union-attr, arg-type]
        **text_fields(parts),
    )
    names = ("vision_model", "connector", "text_model")
    state = native_state(parts, vision_state, names=names)
    return Native(config, state, smolvlm_processor(parts))


def pixel_inputs(pixel_values: Tensor, facts: Facts) -> dict[str, Tensor]:
    """``[1, tiles, 3, size, size]``: all tiles of one conversation."""
    return {"pixel_values": pixel_values.unsqueeze(0)}


def smolvlm_processor(parts: Parts) -> Any:
    """SmolVLMProcessor, with as many placeholders for a tile as the projector makes tokens of it.

    Raises:
        UserError: a package that the processor needs is not installed.
    """
    from transformers import SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor

    if find_spec("num2words") is None:
        raise UserError("the stock processor of images.style smolvlm needs num2words: pip install num2words")

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
        image_seq_len=tokens_per_tile(parts),
        chat_template=stock_template(parts.processor.template, facts.image_token),
    )


SMOLVLM = Target("smolvlm", "SmolVLMForConditionalGeneration", obstacles, native, pixel_inputs)
