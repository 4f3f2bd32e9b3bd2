"""From pairs to tensors, a sample to a row or several."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from taid_vlm.data.pairing import Pair, Side
from taid_vlm.data.pictures import Picture
from taid_vlm.data.record import REASONS, Broken


@dataclass(frozen=True)
class PaddedSide:
    """A batch for one model: ``input_ids`` and ``attention_mask`` [B, L], ``rows`` [R] in the flattened B * L.

    Attributes:
        position_ids: ``[B, L]`` where a row holds several samples: they begin again at 0 with each of them, and with the
            padding behind the last. None where a row is one sample.
        pixel_values: tiles of the batch's pictures as this model takes them, where they were made with the batch.
        tiles: how many each picture has.
    """

    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor
    position_ids: Tensor | None = None
    pixel_values: Tensor | None = None
    tiles: tuple[int, ...] = ()

    def pin_memory(self) -> "PaddedSide":
        """The same in page-locked memory."""
        tensors: dict[str, Any] = {n: v.pin_memory() for n, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)


@dataclass(frozen=True)
class PairedBatch:
    """Some pairs as tensors; row r of both sides predicts ``labels[r]``.

    Attributes:
        pictures: decoded pictures in order, empty when nobody needs them: features are known, or pixels made, already.
        picture_keys: what they were read from, the keys of cached features.
        picture_counts: how many of them each sample has.
        dropped: why samples that should have been here could not be used, each with its message.
        student_written: ``[R]`` booleans, the rows of answers that the student wrote; None where it wrote none.
    """

    ids: list[str]
    labels: Tensor
    student: PaddedSide
    teacher: PaddedSide | None
    pictures: list[Image.Image]
    picture_keys: list[Picture]
    dropped: list[Broken]
    picture_counts: tuple[int, ...] = ()
    student_written: Tensor | None = None

    def pin_memory(self) -> "PairedBatch":
        """The same with its tensors in page-locked memory; the loader calls it where it pins."""
        teacher = None if self.teacher is None else self.teacher.pin_memory()
        return replace(self, labels=self.labels.pin_memory(), student=self.student.pin_memory(), teacher=teacher)


def dropped_by_reason(batches: Sequence[PairedBatch]) -> list[int]:
    """How many samples some batches miss, for each of ``REASONS`` in their order, so that processes can add up theirs."""
    found = [one.reason for batch in batches for one in batch.dropped]
    return [found.count(reason) for reason in REASONS]


def collate(
    pairs: list[Pair],
    pictures: list[Image.Image],
    pad_id: int,
    dropped: list[Broken],
    student_rows: list[int] | None = None,
    teacher_rows: list[int] | None = None,
) -> PairedBatch:
    """Pad on the right; attention follows from lengths, never from comparing ids with the padding id.

    Args:
        student_rows: how many of the pairs, in their order, each row takes; None gives each a row. ``teacher_rows`` likewise.
    """
    with_teacher = bool(pairs) and all(pair.teacher is not None for pair in pairs)
    theirs = [pair.teacher for pair in pairs if pair.teacher is not None] if with_teacher else None
    own = None
    if any(pair.student_written for pair in pairs):
        own = torch.tensor([pair.student_written for pair in pairs for _ in pair.labels])
    return PairedBatch(
        ids=[pair.id for pair in pairs],
        labels=torch.tensor([label for pair in pairs for label in pair.labels], dtype=torch.long),
        student=_side([pair.student for pair in pairs], student_rows, pad_id),
        teacher=None if theirs is None else _side(theirs, teacher_rows, pad_id),
        pictures=pictures,
        picture_keys=[path for pair in pairs for path in pair.images],
        dropped=dropped,
        picture_counts=tuple(len(pair.images) for pair in pairs),
        student_written=own,
    )


def _side(sides: list[Side], per_row: list[int] | None, pad_id: int) -> PaddedSide:
    return pad_sides(sides, pad_id) if per_row is None else pack_sides(sides, per_row, pad_id)


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


def pack_sides(sides: list[Side], per_row: list[int], pad_id: int) -> PaddedSide:
    """``[B, L]`` tensors of one model's sequences, the first ``per_row[0]`` of them in the first row, and so on.

    Padding is a document of its own: it attends to itself, and nothing attends to it.
    """
    left = iter(sides)
    rows = [list(islice(left, count)) for count in per_row] or [[]]
    longest = max(1, *(sum(len(side.ids) for side in row) for row in rows))
    input_ids = torch.full((len(rows), longest), pad_id)
    attention_mask, position_ids = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
    answers: list[int] = []
    for index, row in enumerate(rows):
        start = 0
        for side in row:
            end = start + len(side.ids)
            input_ids[index, start:end] = torch.tensor(side.ids)
            position_ids[index, start:end] = torch.arange(end - start)
            answers += [index * longest + start + at for at in side.rows]
            start = end
        attention_mask[index, : max(start, 1)] = 1  # a row without samples is one token that nobody asks for
        position_ids[index, start:] = torch.arange(longest - start)
    return PaddedSide(input_ids, attention_mask, torch.tensor(answers, dtype=torch.long), position_ids)
