"""Casts that autocast would make anew in every forward, made once: of weights that do not learn. The bits are the same.

On a CPU they are a tenth of a step, and more where batches are small.
"""

import torch
from torch import Tensor, nn

from taid_vlm.models.student import Student
from taid_vlm.models.teacher import TeacherModel


def cast_layers(model: TeacherModel, dtype: torch.dtype) -> None:
    """The :func:`layers_to_cast` of a frozen model, in place."""
    for layer in layers_to_cast(model):
        layer.to(dtype)


def layers_to_cast(model: TeacherModel) -> list[nn.Linear]:
    """Linear layers in fp32.

    Not the head, nor what it shares with embeddings, which are read in fp32; nor the vision encoder of a saved student,
    which is compared with others to the bit.
    """
    kept = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    kept |= {id(p) for p in model.head.parameters()}
    return [
        module
        for module in (model.language_model if isinstance(model, Student) else model).modules()
        if type(module) is nn.Linear and module.weight.dtype == torch.float32 and id(module.weight) not in kept
    ]


class FrozenCast:
    """A frozen fp32 weight in the dtype of autocast, kept from one call to the next; others are handed back as they are."""

    def __init__(self) -> None:
        self._of: Tensor | None = None
        self._cast: Tensor | None = None

    def __call__(self, weight: Tensor) -> Tensor:
        """The weight, as a matrix product under the present autocast would take it."""
        device = weight.device.type
        if weight.requires_grad or weight.dtype != torch.float32 or not torch.is_autocast_enabled(device):
            return weight
        if self._of is not weight or self._cast is None or self._cast.dtype != torch.get_autocast_dtype(device):
            self._of, self._cast = weight, weight.detach().to(torch.get_autocast_dtype(device))
        return self._cast
