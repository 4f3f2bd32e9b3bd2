"""One conversation as both models see it, with their answer rows lined up by equal token ids.

Teacher and student may differ in template, picture tokens and length; what the assistant says must be the same ids on both sides, for only
then do their logits at the rows before these ids speak of the same choice.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from taid_vlm.common.errors import UserError
from taid_vlm.data.images import image_size
from taid_vlm.data.pictures import Picture
from taid_vlm.data.record import BadSampleError, Record


class RendersChats(Protocol):
    """The part of a model's processor that the data side needs."""

    tokenizer: Any

    @property
    def needs_sizes(self) -> bool:
        """Whether :meth:`render` must know the sizes of the pictures."""
        ...

    def render(
        self,
        messages: list[dict[str, Any]],
        add_generation_prompt: bool = False,
        sizes: list[tuple[int, int]] | None = None,
    ) -> Any:
        """An object with ``ids`` and ``answer_mask``."""
        ...


@dataclass(frozen=True)
class Side:
    """A conversation for one model: ids, and the positions whose next token is the assistant's."""

    ids: list[int]
    rows: list[int]


@dataclass(frozen=True)
class Pair:
    """A conversation for student and teacher; row i of both predicts ``labels[i]``."""

    id: str
    labels: list[int]
    student: Side
    teacher: Side | None
    images: tuple[Picture, ...]


class Pairer:
    """Renders records for both models and counts those whose answers differ.

    Args:
        teacher: None when no teacher is needed.
        max_length: tokens of the longer rendering, all tiles of all pictures included.
    """

    def __init__(self, student: RendersChats, teacher: RendersChats | None, max_length: int) -> None:
        self.student, self.teacher, self.max_length = student, teacher, max_length

    def pair(self, record: Record) -> Pair:
        """Render and line up.

        Raises:
            BadSampleError: no answer, too long, answers that are not the same ids on both sides, or a picture whose size is needed
                and cannot be read.
        """
        record.check()
        sizes: list[tuple[int, int]] | None = None
        if self.student.needs_sizes or (self.teacher is not None and self.teacher.needs_sizes):
            sizes = [image_size(path) for path in record.images]
        student, labels = _side(self.student, record, sizes)
        teacher, teacher_labels = _side(self.teacher, record, sizes) if self.teacher is not None else (None, labels)
        longest = max(len(student.ids), len(teacher.ids) if teacher else 0)
        if longest > self.max_length:
            raise BadSampleError(
                f"sample {record.id} has {longest} tokens, the limit data.max_length is {self.max_length}"
            )
        if labels != teacher_labels:
            shown = [self.student.tokenizer.decode(ids) for ids in (labels, teacher_labels)]
            raise MismatchedAnswerError(
                f"sample {record.id}: the answer is {shown[0]!r} to the student and {shown[1]!r} to the teacher"
            )
        return Pair(record.id, labels, student, teacher, record.images)


class MismatchedAnswerError(BadSampleError):
    """Teacher and student do not say the same ids."""


def check_mismatches(mismatches: list[str], total: int) -> None:
    """Stop when more than 1 % of the pairs disagree.

    Raises:
        UserError: with up to three decoded examples.
    """
    if len(mismatches) > 0.01 * total:
        examples = "\n  ".join(mismatches[:3])
        raise UserError(
            f"{len(mismatches)} of {total} answers are not the same tokens for teacher and student (at most 1 % may differ):\n  "
            f"{examples}\nGive both the same chat template and tokenizer family"
        )


def _side(processor: RendersChats, record: Record, sizes: list[tuple[int, int]] | None) -> tuple[Side, list[int]]:
    rendered = processor.render(record.messages, sizes=sizes)
    # The logits at position i speak of token i + 1: the one shift is made here and nowhere else.
    rows = [i - 1 for i, said in enumerate(rendered.answer_mask) if said and i > 0]
    if not rows:
        raise BadSampleError(f"sample {record.id} has no answer after rendering")
    return Side(rendered.ids, rows), [rendered.ids[i + 1] for i in rows]
