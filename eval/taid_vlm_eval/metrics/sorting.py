"""Which category each of many items has: a number for each item in place of a text."""

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np

from taid_vlm_eval.arrays import Floats, Integers

_NONE = -1


class Sorted(Sequence[str | None]):
    """The category of each item, None where it has none. Memory holds four bytes for each item.

    Args:
        texts: the categories.
        count: how many items there are.

    Attributes:
        names: of the categories, in the order of the alphabet.
    """

    def __init__(self, texts: Iterable[str | None], count: int) -> None:
        sorter = Sorter(count)
        for place, text in enumerate(texts):
            sorter.put(place, text)
        self.names, self._codes_N = sorter.names, sorter.codes()

    @classmethod
    def of(cls, sorter: "Sorter") -> "Sorted":
        """What was put into a sorter."""
        made = cls((), 0)
        made.names, made._codes_N = sorter.names, sorter.codes()
        return made

    def mask(self, name: str) -> Floats:
        """1.0 for the items of a category, else 0.0, [N]."""
        mask_N: Floats = (self._codes_N == self.names.index(name)).astype(np.float64)
        return mask_N

    def __len__(self) -> int:
        return len(self._codes_N)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        if isinstance(index, slice):
            return [self._name(code) for code in self._codes_N[index].tolist()]
        return self._name(int(self._codes_N[index]))

    def _name(self, code: int) -> str | None:
        return None if code == _NONE else self.names[code]


class Sorter:
    """Takes the categories of ``count`` items one by one, and gives up where there are more than ``most`` different ones."""

    def __init__(self, count: int, most: int | None = None) -> None:
        self._codes_N = np.full(count, _NONE, dtype=np.int32)
        self._numbers: dict[str, int] = {}
        self._most = most

    @property
    def too_many(self) -> bool:
        """Whether there were more categories than wanted; what was put is of no use then."""
        return self._most is not None and len(self._numbers) > self._most

    @property
    def names(self) -> tuple[str, ...]:
        """The categories in the order of the alphabet."""
        return tuple(sorted(self._numbers))

    def put(self, place: int, name: str | None) -> None:
        """The category of the item at a place."""
        if name is not None and not self.too_many:
            self._codes_N[place] = self._numbers.setdefault(name, len(self._numbers))

    def codes(self) -> Integers:
        """The place of each item's category among :attr:`names`, -1 where it has none, [N]."""
        rank = {name: place for place, name in enumerate(self.names)}
        ranks = np.array([*(rank[name] for name in self._numbers), _NONE], dtype=np.int32)  # -1 is the last
        return ranks[self._codes_N]
