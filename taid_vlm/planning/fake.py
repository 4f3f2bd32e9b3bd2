"""Modules and batches without values, on which training can be run for its shapes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from taid_vlm.models.native.model import NativeInputs
from taid_vlm.models.student import ModelInputs, Student

DEVICE = "cpu"  # fake tensors of a GPU need a GPU


def fake_mode() -> FakeTensorMode:
    """A mode in which constants that modules keep outside of their buffers are let in."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def make_fake(module: nn.Module, mode: FakeTensorMode, dtypes: Mapping[int, torch.dtype] | None = None) -> None:
    """Replace all parameters and buffers of a module on the meta device by fake ones, in place; ties stay tied.

    Args:
        dtypes: by the id of a parameter, where it shall get another one.
    """
    made: dict[int, Tensor] = {}
    dtypes = dtypes or {}
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                if id(parameter) not in made:
                    like = _like(parameter, mode, dtypes.get(id(parameter)))
                    fake = nn.Parameter(like, requires_grad=parameter.requires_grad)
                    made[id(parameter)] = fake
                owner._parameters[name] = made[id(parameter)]  # type: ignore[assignment]
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                owner._buffers[name] = made.setdefault(id(buffer), _like(buffer, mode))


def _like(tensor: Tensor, mode: FakeTensorMode, dtype: torch.dtype | None = None) -> Tensor:
    with mode:
        return torch.empty(tensor.shape, dtype=dtype or tensor.dtype, device=DEVICE)


@dataclass(frozen=True)
class BatchShape:
    """A padded micro-batch of one model.

    Attributes:
        sequences: B. length: L, the longest of them. rows: R, supervised positions.
        tiles: tiles of all pictures. image_tokens: placeholders of all pictures.
        packed: whether a sequence is a row of several samples, so that attention needs a mask of its own.
    """

    sequences: int
    length: int
    rows: int
    tiles: int = 0
    image_tokens: int = 0
    packed: bool = False


def fake_text(shape: BatchShape, mode: FakeTensorMode) -> NativeInputs:
    """A batch of that shape for a stock model, in which its pictures' tokens are words."""
    size = (shape.sequences, shape.length)
    with mode:
        ids, mask = (torch.zeros(size, dtype=torch.long, device=DEVICE) for _ in range(2))
        return NativeInputs(ids, mask, torch.zeros(shape.rows, dtype=torch.long, device=DEVICE))


def fake_inputs(shape: BatchShape, student: Student, cached_features: bool, mode: FakeTensorMode) -> ModelInputs:
    """What ``student`` takes of a batch of that shape, as fake tensors; pixels, or features when they are cached."""
    size = (shape.sequences, shape.length)
    pixels = features = None
    with mode:
        ids, mask = (torch.zeros(size, dtype=torch.long, device=DEVICE) for _ in range(2))
        rows = torch.zeros(shape.rows, dtype=torch.long, device=DEVICE)
        if student.vision_encoder is not None and shape.tiles:
            contract = student.vision_encoder.contract
            if cached_features:
                features = torch.empty(shape.tiles, contract.tokens, contract.feature_dim, device=DEVICE)
            else:
                side = contract.image.size
                pixels = torch.empty(shape.tiles, 3, side, side, device=DEVICE)
        positions = torch.zeros(size, dtype=torch.long, device=DEVICE) if shape.packed else None
    return ModelInputs(ids, mask, rows, pixels, features, position_ids=positions)
