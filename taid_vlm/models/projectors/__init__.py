"""Projectors: from encoder features to the language model's embedding space.

Each has the arithmetic and the parameter names of a class that transformers ships (``native_classes``), so that
exporting a trained student is a renaming. Registered under exact names; a file holds a family of them.
"""

from taid_vlm.models.projectors.mlp import LinearProjector, MLPProjector
from taid_vlm.models.projectors.perceiver import Perceiver
from taid_vlm.models.projectors.pixel_shuffle import LNPixelShuffleMLP, PixelShuffleLinear, PixelShuffleMLP
from taid_vlm.models.projectors.pooling import LDPv2, MLPAvgPool
from taid_vlm.models.projectors.registry import PROJECTORS, Projector, build_projector, check_options
from taid_vlm.models.projectors.space_to_depth import space_to_depth

__all__ = [
    "PROJECTORS",
    "LDPv2",
    "LNPixelShuffleMLP",
    "LinearProjector",
    "MLPAvgPool",
    "MLPProjector",
    "Perceiver",
    "PixelShuffleLinear",
    "PixelShuffleMLP",
    "Projector",
    "build_projector",
    "check_options",
    "space_to_depth",
]
