"""One conversation as both models see it, with their answer rows lined up by equal token ids.

Teacher and student may differ in template, picture tokens and length; what the assistant says must be the same ids on both sides, for only
then do their logits at the rows before these ids speak of the same choice.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

from taid_vlm.common.errors import UserError
from taid_vlm.data.images import image_size
from taid_vlm.data.pictures import Picture
from taid_vlm.data.record import BadSampleError, Record, image_places
from taid_vlm.data.text import text_sides
from taid_vlm.recipe.data_spec import DataSpec


class RendersChats(Protocol):
    """The part of a model's processor that the data side needs."""

    tokenizer: Any
    image_token_id: int | None

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
    """A conversation for student and teacher; row i of both predicts ``labels[i]``.

    Attributes:
        student_written: the answer is the student's own.
    """

    id: str
    labels: list[int]
    student: Side
    teacher: Side | None
    images: tuple[Picture, ...]
    student_written: bool = False


@dataclass(frozen=True)
class Said:
    """A side with what is said on it.

    Attributes:
        labels: the token after each row. ends: which of the rows speak of a token that ends a turn.
    """

    side: Side
    labels: list[int]
    ends: list[bool]

    def without_ends(self) -> "Said":
        """The words alone."""
        kept = [place for place, ends in enumerate(self.ends) if not ends]
        side = Side(self.side.ids, [self.side.rows[place] for place in kept])
        return Said(side, [self.labels[place] for place in kept], [False] * len(kept))


class Pairer:
    """Renders records for both models and lines their answers up.

    Where the two end a turn with different tokens (``ends_differ``), the words are paired and these tokens left out.

    Args:
        teacher: None when no teacher is needed.
        max_length: tokens of the longer rendering, all tiles of all pictures included.
        too_long: a longer sample is dropped, or trimmed: it loses whole turns at its end until it fits, with their pictures.

    Attributes:
        trimmed: samples that lost turns so far. end_tokens_left_out: turns whose last token was left out so far.
    """

    def __init__(
        self,
        student: RendersChats,
        teacher: RendersChats | None,
        max_length: int,
        too_long: Literal["drop", "trim"] = "drop",
    ) -> None:
        self.student, self.teacher, self.max_length, self.too_long = student, teacher, max_length, too_long
        self.trimmed = self.end_tokens_left_out = 0

    @classmethod
    def of(cls, data: DataSpec, student: RendersChats, teacher: RendersChats | None) -> "Pairer":
        """As a recipe asks for it: training, plan and preview must pair alike."""
        return cls(student, teacher, data.max_length, data.too_long)

    def pair(self, record: Record) -> Pair:
        """Render and line up; see :meth:`fit`."""
        return self.fit(record)[1]

    def fit(self, record: Record) -> tuple[Record, Pair]:
        """Render and line up.

        Returns:
            The record as it was rendered, shorter where it was trimmed, and its pair.

        Raises:
            BadSampleError: no answer, too long, answers that are not the same ids on both sides, or a picture whose size is needed
                and cannot be read.
        """
        record.check()
        sizes: list[tuple[int, int]] | None = None
        if self.student.needs_sizes or (self.teacher is not None and self.teacher.needs_sizes):
            sizes = [image_size(path) for path in record.images]
        said = self._said(record, sizes)
        if _longest(said) > self.max_length:
            shorter = self._trim(record, sizes) if self.too_long == "trim" else None
            if shorter is None:
                whole = ", even with its first answer alone" if self.too_long == "trim" else ""
                raise BadSampleError(
                    f"sample {record.id} has {_longest(said)} tokens, the limit data.max_length is {self.max_length}{whole}",
                    "too long",
                )
            record, said = shorter
            self.trimmed += 1
        return record, self._lined_up(record, said)

    @property
    def models(self) -> list[RendersChats]:
        """The student, and the teacher if there is one."""
        return [self.student] if self.teacher is None else [self.student, self.teacher]

    @cached_property
    def ends_differ(self) -> bool:
        """Whether student and teacher end a turn with different tokens; the same for every record."""
        if self.teacher is None:
            return False
        record = Record("ends", [{"role": "user", "content": "?"}, {"role": "assistant", "content": "."}])
        last = {said.labels[-1] for said in self._said(record, None)}
        return len(last) > 1

    def notes(self) -> list[str]:
        """What a user must know of the samples that were paired so far."""
        found = []
        if self.trimmed:
            found.append(f"{self.trimmed} samples were too long and lost turns at their end (data.too_long: trim)")
        if self.end_tokens_left_out:
            found.append(
                f"student and teacher end a turn with different tokens, so these {self.end_tokens_left_out} tokens are left out: the "
                f"words are distilled, when to stop is not. Give both the same chat template to teach that as well"
            )
        return found

    def _said(self, record: Record, sizes: list[tuple[int, int]] | None) -> list[Said]:
        if record.text is not None:
            texts = text_sides(record, self.models)
            return [Said(Side(one.ids, one.rows), one.labels, [False] * len(one.rows)) for one in texts]
        return [_side(model, record, sizes) for model in self.models]

    def _trim(self, record: Record, sizes: list[tuple[int, int]] | None) -> tuple[Record, list[Said]] | None:
        """The most turns that fit, found by halving; None where not even the first does."""
        answers = [place + 1 for place, message in enumerate(record.messages) if message["role"] == "assistant"]
        stops = [stop for stop in answers if stop < len(record.messages)]
        found, low, high = None, 0, len(stops)
        while low < high:
            middle = (low + high) // 2
            shorter = _first(record, stops[middle])
            said = self._said(shorter, sizes and sizes[: len(shorter.images)])
            if _longest(said) <= self.max_length:
                found, low = (shorter, said), middle + 1
            else:
                high = middle
        return found

    def _lined_up(self, record: Record, said: list[Said]) -> Pair:
        student, teacher = said[0], said[-1]
        if student.labels != teacher.labels and self.ends_differ:
            self.end_tokens_left_out += sum(student.ends)
            student, teacher = student.without_ends(), teacher.without_ends()
        if student.labels != teacher.labels:
            shown = [self.student.tokenizer.decode(side.labels) for side in said]
            raise MismatchedAnswerError(
                f"sample {record.id}: the answer is {shown[0]!r} to the student and {shown[1]!r} to the teacher",
                "answers differ",
            )
        return Pair(record.id, student.labels, student.side, teacher.side if self.teacher else None, record.images)


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


def _side(processor: RendersChats, record: Record, sizes: list[tuple[int, int]] | None) -> Said:
    try:
        rendered = processor.render(record.messages, sizes=sizes)
    except UserError as error:  # a picture of a shape that the model does not take, for one
        raise BadSampleError(f"sample {record.id}: {error}") from error
    # The logits at position i speak of token i + 1: the one shift is made here and nowhere else.
    rows = [i - 1 for i, said in enumerate(rendered.answer_mask) if said and i > 0]
    if not rows:
        raise BadSampleError(f"sample {record.id} has no answer after rendering", "no answer")
    mask = [*rendered.answer_mask, False]
    return Said(Side(rendered.ids, rows), [rendered.ids[row + 1] for row in rows], [not mask[row + 2] for row in rows])


def _longest(said: list[Said]) -> int:
    return max(len(one.side.ids) for one in said)


def _first(record: Record, messages: int) -> Record:
    """A record of the first messages, with the pictures that belong to them."""
    kept = record.messages[:messages]
    return replace(record, messages=kept, images=record.images[: image_places(kept)])
