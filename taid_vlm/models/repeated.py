"""The repeated layers of a model, which sharding, options, placements and the plan treat one by one."""

from typing import Any

from torch import nn

from taid_vlm.models.language_model import backbone_of
from taid_vlm.models.native.model import NativeModel
from taid_vlm.models.student import Student


def repeated_layers(module: nn.Module) -> list[nn.Module]:
    """Members of lists of at least two modules of one class, the outermost."""
    found: list[nn.Module] = []
    for child in module.children():
        members = list(child.children())
        listed = isinstance(child, nn.ModuleList | nn.Sequential) and len(members) > 1
        if listed and len({type(m) for m in members}) == 1 and next(members[0].parameters(), None) is not None:
            found += members
        else:
            found += repeated_layers(child)
    return found


def language_layers(model: Student | NativeModel) -> list[nn.Module]:
    """Decoder layers of the language model, in order; none where it keeps them in no list."""
    decoder: Any = model.native.get_decoder() if isinstance(model, NativeModel) else backbone_of(model.language_model)
    layers = getattr(decoder, "layers", None)
    return list(layers) if isinstance(layers, nn.ModuleList) else repeated_layers(decoder)


def vision_layers(student: Student) -> list[nn.Module]:
    """Blocks or stages of the vision encoder; none of a plain language model."""
    return [] if student.vision_encoder is None else repeated_layers(student.vision_encoder)


def learns_statistics(layer: nn.Module) -> bool:
    """Whether its forward changes it: batch norm. Done twice for one batch, it would count the batch twice."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in layer.modules())
