"""Which items are asked together, and in what order."""

from collections.abc import Sequence

import numpy as np

from taid_vlm_eval.arrays import Integers
from taid_vlm_eval.asking import text_of, tiles_of
from taid_vlm_eval.data import Item, ItemTable
from taid_vlm_eval.models.protocol import Measuring, Model
from taid_vlm_eval.task import Task
from taid_vlm_eval.ways import earlier_turns

_LIKE = (
    64  # characters: prompts that differ by less count as equally long where that keeps questions on a picture together
)


class Batches(Sequence[Integers]):
    """The places of the items of each batch.

    Batches are cut from all items, whatever was answered before, whoever asks, and however many ask at the same time. So a
    run that is resumed, or shared, meets the same batches as one that was neither. The order from which they are cut does not
    depend on their size.
    """

    def __init__(self, order_N: Integers, batch_size: int) -> None:
        self._order_N, self._size = order_N, batch_size

    def __len__(self) -> int:
        return -(-len(self._order_N) // self._size)

    def __getitem__(self, index: int) -> Integers:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._order_N[self.stretch(index).start : self.stretch(index).stop]

    def stretch(self, index: int) -> range:
        """From where to where a batch reaches in the order from which batches of any size are cut."""
        return range(index * self._size, min((index + 1) * self._size, len(self._order_N)))


def make_batches(items: Sequence[Item], task: Task, model: Model, batch_size: int) -> Batches:
    """Like items together, the longest first, so that memory runs out early or never.

    Items are ordered by the number of images, what these become in tokens where the model tells (:class:`Measuring`), the length
    of the prompt in steps of 64 characters, then image by image, so that one is encoded once for its questions, then the exact length.
    """
    table = ItemTable.of(items)
    lengths_N = np.fromiter((_length(item, task) for item in table), dtype=np.int32, count=len(table))
    counts_N = np.diff(table.pictures.starts)
    tokens_N = (
        _picture_tokens(table, task, model) if isinstance(model, Measuring) else np.zeros(len(table), dtype=np.int64)
    )
    keys = (
        np.arange(len(table)),
        -lengths_N,
        _first_pictures(table),
        -(lengths_N // _LIKE),
        -tokens_N,
        -counts_N,
    )
    return Batches(np.lexsort(keys).astype(np.int32), batch_size)


def _length(item: Item, task: Task) -> int:
    return len(text_of(item, task)) + sum(len(question) + len(answer) for question, answer in earlier_turns(item))


def _first_pictures(table: ItemTable) -> Integers:
    """The number of the first image of each item, 0 without one, [N]."""
    pictures = table.pictures
    if not len(pictures.numbers):
        return np.zeros(len(table), dtype=np.int32)
    first_N = pictures.numbers[np.minimum(pictures.starts[:-1], len(pictures.numbers) - 1)]
    return np.where(np.diff(pictures.starts) > 0, first_N, 0)


def _picture_tokens(table: ItemTable, task: Task, model: Measuring) -> Integers:
    """Tokens of all images of each item, [N]."""
    sizes_U2 = table.pictures.sizes(table)
    known: dict[tuple[int, int, int | None], int] = {}
    tokens_N = np.zeros(len(table), dtype=np.int64)
    for place in range(len(table)):
        numbers = table.pictures.of(place)
        limit = tiles_of(task.style, len(numbers))
        for width, height in sizes_U2[numbers].tolist():
            if (width, height, limit) not in known:
                known[width, height, limit] = model.picture_tokens(width, height, limit) if width and height else 0
            tokens_N[place] += known[width, height, limit]
    return tokens_N
