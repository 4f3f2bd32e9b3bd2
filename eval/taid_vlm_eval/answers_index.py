"""Where the answer to each item stands in an answers file."""

import numpy as np

from taid_vlm_eval.answers import Answer, is_final
from taid_vlm_eval.arrays import Integers
from taid_vlm_eval.marks import Places

_NONE = -1


class AnswersIndex:
    """What the lines of a file say, by item; the texts stay in the file. Memory holds eleven bytes for each item.

    Args:
        ids: of the items, in their order.

    Attributes:
        lacking: which items have no answer, or one that is not final from before :meth:`ask_again`, [N].
        errors: how many of the answers say why there is none.
        lines: how many lines were noted.
    """

    def __init__(self, ids: Places) -> None:
        self._ids = ids
        self.errors = self.lines = 0
        self.lacking = np.ones(len(ids), dtype=bool)
        self._starts = np.full(len(ids), _NONE, dtype=np.int64)
        self._final = np.zeros(len(ids), dtype=bool)
        self._failed = np.zeros(len(ids), dtype=bool)

    def note(self, answer: Answer, start: int) -> None:
        """Take notice of the line that begins at a place of the file."""
        self.lines += 1
        place = self._ids.find(answer["id"])
        if place is None or self._final[place]:
            return  # the first final answer holds
        self.errors += (answer["error"] is not None) - int(self._failed[place])
        self._starts[place] = start
        self._final[place], self._failed[place] = is_final(answer), answer["error"] is not None
        self.lacking[place] = False

    def ask_again(self) -> None:
        """Let items whose answers are not final count as lacking."""
        self.lacking = ~self._final

    def has_final(self, one: str) -> bool:
        """Whether an item has an answer that stays."""
        place = self._ids.find(one)
        return place is not None and bool(self._final[place])

    def start_of(self, one: str) -> int | None:
        """Where the line of an item begins; None where it has none."""
        place = self._ids.find(one)
        return None if place is None or self._starts[place] == _NONE else int(self._starts[place])

    def starts(self) -> Integers:
        """Where lines begin, in the order of the items, without those that have none."""
        starts: Integers = self._starts[self._starts != _NONE]
        return starts

    def __len__(self) -> int:
        return int((self._starts != _NONE).sum())

    @property
    def is_complete(self) -> bool:
        """Whether all items have an answer."""
        return len(self) == len(self._ids)

    @property
    def is_in_order(self) -> bool:
        """Whether the file has one line for each item, in the order of the items."""
        return self.lines == len(self._ids) and bool((np.diff(self._starts) > 0).all())
