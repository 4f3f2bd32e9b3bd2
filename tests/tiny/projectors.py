"""Projectors for encoders that are not there: only their contract counts."""

from typing import Any

import torch

from taid_vlm.models.projectors import build_projector
from taid_vlm.models.specs import ProjectorSpec
from taid_vlm.models.vision_encoder import EncoderContract, ImageInput

SMALL_HEADS = {"latents": 5, "depth": 2, "heads": 4, "kv_heads": 2, "head_dim": 8}


def contract(
    grid: tuple[int, int] = (6, 6), width: int = 24, prefix: int = 0, size: int | None = None
) -> EncoderContract:
    """Of an encoder with cells of 16 pixels, or of a picture of ``size``."""
    image = ImageInput(size or 16 * grid[0], (0.5,) * 3, (0.5,) * 3, "bicubic")
    return EncoderContract(width, grid, image, prefix)


def build(name: str, made: EncoderContract, hidden: int = 32, std: float = 0.05, **options: Any) -> Any:
    """The projector ``name``, always with the same weights."""
    torch.manual_seed(0)
    return build_projector(ProjectorSpec(name=name, options=options), made, hidden, std)
