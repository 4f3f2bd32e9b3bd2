"""The repeated layers of a model, which options and placements treat one by one."""

from typing import Any

from torch import nn

from taid_vlm.models.language_model import backbone_of
from taid_vlm.models.native.model import NativeModel
from taid_vlm.models.student import Student
from taid_vlm.training.sharding import units


def language_layers(model: Student | NativeModel) -> list[nn.Module]:
    """Decoder layers of the language model, in order; none where it keeps them in no list."""
    decoder: Any = model.native.get_decoder() if isinstance(model, NativeModel) else backbone_of(model.language_model)
    layers = getattr(decoder, "layers", None)
    return list(layers) if isinstance(layers, nn.ModuleList) else units(decoder)


def vision_layers(student: Student) -> list[nn.Module]:
    """Blocks or stages of the vision encoder; none of a plain language model."""
    return [] if student.vision_encoder is None else units(student.vision_encoder)
