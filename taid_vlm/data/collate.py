"""From pairs to padded tensors."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from taid_vlm.data.pairing import Pair, Side
from taid_vlm.data.pictures import Picture


@dataclass(frozen=True)
class PaddedSide:
    """A batch for one model: ``input_ids`` and ``attention_mask`` [B, L], ``rows`` [R] in the flattened B * L."""

    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor


@dataclass(frozen=True)
class PairedBatch:
    """Some pairs as tensors; row r of both sides predicts ``labels[r]``.

    Attributes:
        pictures: decoded pictures in order, empty when their features are known already.
        picture_keys: what they were read from, the keys of cached features.
        dropped: samples that should have been here and could not be used.
    """

    ids: list[str]
    labels: Tensor
    student: PaddedSide
    teacher: PaddedSide | None
    pictures: list[Image.Image]
    picture_keys: list[Picture]
    dropped: list[str]


def collate(pairs: list[Pair], pictures: list[Image.Image], pad_id: int, dropped: list[str]) -> PairedBatch:
    """Pad on the right; attention follows from lengths, never from comparing ids with the padding id."""
    with_teacher = bool(pairs) and all(pair.teacher is not None for pair in pairs)
    teacher = pad_sides([pair.teacher for pair in pairs if pair.teacher is not None], pad_id) if with_teacher else None
    return PairedBatch(
        ids=[pair.id for pair in pairs],
        labels=torch.tensor([label for pair in pairs for label in pair.labels], dtype=torch.long),
        student=pad_sides([pair.student for pair in pairs], pad_id),
        teacher=teacher,
        pictures=pictures,
        picture_keys=[path for pair in pairs for path in pair.images],
        dropped=dropped,
    )


def pad_sides(sides: list[Side], pad_id: int) -> PaddedSide:
    """``[B, L]`` tensors of one model's sequences; no sequences give a batch of one padding token without rows."""
    longest = max((len(side.ids) for side in sides), default=1)
    input_ids = torch.full((max(len(sides), 1), longest), pad_id)
    attention_mask = torch.zeros_like(input_ids)
    rows: list[int] = []
    for index, side in enumerate(sides):
        input_ids[index, : len(side.ids)] = torch.tensor(side.ids)
        attention_mask[index, : len(side.ids)] = 1
        rows += [index * longest + row for row in side.rows]
    if not sides:
        attention_mask[0, 0] = 1
    return PaddedSide(input_ids, attention_mask, torch.tensor(rows, dtype=torch.long))
