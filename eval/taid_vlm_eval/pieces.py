"""One batch: opened and prepared, put to the model, halved when memory runs out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from taid_vlm_eval.answers import SERVER, Answer
from taid_vlm_eval.arrays import Integers
from taid_vlm_eval.asking import request_of
from taid_vlm_eval.cannot_ask import CannotAskError
from taid_vlm_eval.data import Item, ItemTable
from taid_vlm_eval.data.item import open_images
from taid_vlm_eval.data.pictures import BrokenImageError
from taid_vlm_eval.memory import is_out_of_memory, unless_out_of_memory
from taid_vlm_eval.models.faults import AnswerFault, UnaskableError
from taid_vlm_eval.models.protocol import Model, Preparing, Request, Streaming
from taid_vlm_eval.models.said import Said
from taid_vlm_eval.task import Task
from taid_vlm_eval.unread import as_fault, may_be_an_item, unread


@dataclass
class Piece:
    """What is asked at once.

    Attributes:
        ids: of the items asked, [n].
        requests: [n].
        prepared: what the model made of the requests, where it prepares any.
        failure: what went wrong in that, to be raised where it would have been without workers.
    """

    ids: list[str]
    requests: list[Request]
    prepared: Any = None
    failure: Exception | None = None


@dataclass
class Loaded:
    """A batch: answers to items that cannot be asked, and the pieces of the others."""

    errors: list[Answer]
    pieces: list[Piece]


def load(table: ItemTable, places: Integers, model: Model, task: Task, size: int | None) -> Loaded:
    """Open the pictures of a batch and let the model prepare it, in pieces of at most ``size`` items.

    Raises:
        CannotAskError: no memory for the pictures of all items at once.
    """
    errors: list[Answer] = []
    whole, opened = Piece([], []), _each_once()
    for place in places.tolist():
        item = table[place]
        try:
            keys = table.pictures.keys(place, item.images)
            whole.requests.append(request_of(item, task, keys=keys, opened=opened))
            whole.ids.append(item.id)
        except BrokenImageError as error:
            errors.append(Answer(id=item.id, answer="", error=str(error)))
        except MemoryError:
            raise CannotAskError(
                f"task {task.name!r}: no memory to open the pictures of {len(places)} items at once; a smaller --batch-size or "
                f"fewer --workers take less"
            ) from None
    pieces = _cut(whole, size) if whole.ids else []
    for piece in pieces:
        prepare(piece, model)
    return Loaded(errors, pieces)


def _each_once() -> Callable[[Item], list[Image.Image]]:
    """Opens the pictures of items, each file once: many questions of a batch are about one, and all of them lie in memory."""
    known: dict[Path, Image.Image] = {}

    def images_of(item: Item) -> list[Image.Image]:
        new = [path for path in dict.fromkeys(item.images) if path not in known]
        known.update(zip(new, open_images(replace(item, images=new)), strict=True))
        return [known[path] for path in item.images]

    return images_of


def prepare(piece: Piece, model: Model) -> None:
    """Let the model prepare a piece, where it prepares any; what goes wrong is kept until the piece is asked."""
    if isinstance(model, Preparing):
        try:
            piece.prepared = model.prepare(piece.requests)
        except Exception as error:
            piece.failure = error


def _cut(piece: Piece, size: int | None) -> list[Piece]:
    if size is None or len(piece.ids) <= size:
        return [piece]
    starts = range(0, len(piece.ids), size)
    return [Piece(piece.ids[start : start + size], piece.requests[start : start + size]) for start in starts]


def _joined(pieces: Sequence[Piece]) -> Piece:
    return Piece(list(chain(*(one.ids for one in pieces))), list(chain(*(one.requests for one in pieces))))


class Asker:
    """Puts batches to a model.

    Attributes:
        size: of pieces, once memory ran out; None before.
    """

    def __init__(self, model: Model, task: Task) -> None:
        self._model, self._task = model, task
        self.size: int | None = None
        self._read = False  # whether the model has prepared anything

    def ask(self, batch: Loaded) -> Iterator[list[Answer]]:
        """The answers to a batch, as they come.

        Raises:
            CannotAskError: no memory even for one item.
        """
        if batch.errors:
            yield batch.errors
        waiting = batch.pieces[::-1]
        while waiting:
            piece = waiting.pop()
            if self.size is not None and len(piece.ids) > self.size:
                waiting += _cut(piece, self.size)[::-1]
                continue
            if isinstance(self._model, Streaming):
                yield from self._one_after_the_other(self._model, piece)
                continue
            if (said := unless_out_of_memory(partial(self._answer, piece))) is None:
                piece.failure = None
                self.size = self._smaller(piece)
                waiting = _cut(_joined([piece, *waiting[::-1]]), self.size)[::-1]
                continue
            yield [_as_answer(one, text) for one, text in zip(piece.ids, said, strict=True)]

    def _one_after_the_other(self, model: Streaming, piece: Piece) -> Iterator[list[Answer]]:
        """So that what was answered is kept, whatever becomes of those that are waited for."""
        for place, said in model.answers_as_they_come(piece.requests, self._task.generation.max_new_tokens):
            yield [_as_answer(piece.ids[place], said)]

    def _answer(self, piece: Piece) -> Sequence[Said]:
        model, longest, count = self._model, self._task.generation.max_new_tokens, len(piece.requests)
        try:
            if isinstance(model, Preparing):
                if piece.prepared is None and piece.failure is None:  # a part of one that did not fit
                    prepare(piece, model)
                if piece.failure is not None and not is_out_of_memory(piece.failure) and may_be_an_item(piece.failure):
                    return self._without_unread(piece, unread(model, piece.requests, self._read, is_out_of_memory))
                if piece.failure is not None:
                    raise piece.failure
                self._read = True
                said: Sequence[Said] = model.answer(piece.prepared, longest)
            else:
                said = model.generate(piece.requests, longest)
        except AnswerFault as fault:
            return [fault] * count
        except UnaskableError as error:  # found out late; which of them it is shows when each is asked alone
            return [as_fault(error)] if count == 1 else self._one_by_one(piece)
        if len(said) != count:
            raise RuntimeError(f"model {model.name!r} gave {len(said)} answers to {count} requests")
        return said

    def _without_unread(self, piece: Piece, faults: dict[int, AnswerFault]) -> Sequence[Said]:
        rest = [place for place in range(len(piece.ids)) if place not in faults]
        asked = Piece([piece.ids[place] for place in rest], [piece.requests[place] for place in rest])
        if rest and not faults:  # each is read alone, and all together are not
            return self._one_by_one(asked)
        answers = faults | dict(zip(rest, self._answer(asked) if rest else [], strict=True))
        return [answers[place] for place in range(len(piece.ids))]

    def _one_by_one(self, piece: Piece) -> Sequence[Said]:
        return [said for one in _cut(piece, 1) for said in self._answer(one)]

    def _smaller(self, piece: Piece) -> int:
        if len(piece.ids) == 1:
            raise CannotAskError(
                f"task {self._task.name!r}: out of memory with the single item {piece.ids[0]!r}; use a device with more memory, "
                f"a smaller precision, or fewer max_new_tokens ({self._task.generation.max_new_tokens})"
            )
        return len(piece.ids) // 2


def _as_answer(one: str, said: Said) -> Answer:
    if isinstance(said, AnswerFault):
        lasting = Answer(id=one, answer="", error=said.text)
        return lasting if said.lasting else Answer(**lasting, kind=SERVER)
    return Answer(id=one, answer=said, error=None)
