"""Texts by number, where a dictionary of a hundred thousand of them would be large: 128-bit digests in sorted arrays."""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

from taid_vlm_eval.arrays import Integers, Marks

_BYTES = 16


def mark_of(text: str) -> bytes:
    """A digest; that two texts share one is out of reach."""
    return blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=_BYTES).digest()


def marks_of(texts: Iterable[str]) -> Marks:
    """The digests of texts, [N], 16 bytes each."""
    return np.frombuffer(bytearray().join(map(mark_of, texts)), dtype=f"V{_BYTES}")


class Places:
    """Where a text stands in a list.

    Args:
        texts: the list; of equal texts, the first counts.

    Attributes:
        repeated: the place of the first text that stood there before, None where all differ.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        marks_N = marks_of(texts)
        self._order_N = np.argsort(marks_N, kind="stable").astype(np.int32)
        self._sorted_N = marks_N[self._order_N]
        again_N = self._order_N[1:][self._sorted_N[1:] == self._sorted_N[:-1]]
        self.repeated: int | None = int(again_N.min()) if again_N.size else None

    def __len__(self) -> int:
        return len(self._order_N)

    def find(self, text: str) -> int | None:
        """The place of a text, None where it is not in the list."""
        mark = np.frombuffer(mark_of(text), dtype=self._sorted_N.dtype)[0]
        spot = int(np.searchsorted(self._sorted_N, mark))
        return int(self._order_N[spot]) if spot < len(self) and self._sorted_N[spot] == mark else None


def numbered(marks_M: Marks) -> tuple[Integers, int]:
    """Marks by the order in which they come first, [M], and how many different ones there are."""
    _, first_U, which_M = np.unique(marks_M, return_index=True, return_inverse=True)
    rank_U = np.empty(len(first_U), dtype=np.int32)
    rank_U[np.argsort(first_U)] = np.arange(len(first_U), dtype=np.int32)
    return rank_U[which_M], len(first_U)
