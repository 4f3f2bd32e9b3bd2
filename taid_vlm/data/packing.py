"""How sequences of different lengths are put into rows of a tensor, so that little of it is padding.

Only lengths are looked at, and equal lengths give equal rows, so a resumed run packs as the whole one did.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Packing:
    """How many tokens a row may have; of the teacher None where its sequences stay one to a row."""

    student: int
    teacher: int | None = None


def pack_rows(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of the sequences of each row, in as few rows as first-fit decreasing finds, and these about equally long.

    All rows become as long as the longest, so one that is nearly empty would cost as much as a full one. A sequence
    that is longer than ``capacity`` gets a row of its own.
    """
    rows = first_fit_decreasing(lengths, capacity)
    even = longest_to_shortest(lengths, len(rows))
    return min(rows, even, key=lambda found: max((sum(lengths[i] for i in row) for row in found), default=0))


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Each sequence, the longest first, into the first row with room for it: at most 11/9 of the fewest rows, plus one."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in decreasing(lengths):
        at = next((row for row, left in enumerate(room) if lengths[index] <= left), None)
        if at is None:
            at = len(rows)
            rows.append([])
            room.append(capacity)
        rows[at].append(index)
        room[at] -= lengths[index]
    return rows


def longest_to_shortest(lengths: Sequence[int], rows: int) -> list[list[int]]:
    """Each sequence, the longest first, into the row that is the shortest so far."""
    found: list[list[int]] = [[] for _ in range(rows)]
    filled = [0] * rows
    for index in decreasing(lengths):
        at = filled.index(min(filled))
        found[at].append(index)
        filled[at] += lengths[index]
    return found


def split_in_order(lengths: Sequence[int], capacity: int) -> list[int]:
    """How many sequences each row takes when their order is given: the fewest rows, and of these the shortest."""
    if not lengths:
        return []
    fewest = len(_next_fit(lengths, capacity))
    low, high = max(lengths), max(capacity, max(lengths))
    while low < high:
        middle = (low + high) // 2
        if len(_next_fit(lengths, middle)) <= fewest:
            high = middle
        else:
            low = middle + 1
    return _next_fit(lengths, low)


def decreasing(lengths: Sequence[int]) -> list[int]:
    """Indices from the longest to the shortest, equal ones in their order."""
    return sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))


def _next_fit(lengths: Sequence[int], capacity: int) -> list[int]:
    counts: list[int] = []
    filled = 0
    for length in lengths:
        if not counts or filled + length > capacity:
            counts.append(0)
            filled = 0
        counts[-1] += 1
        filled += length
    return counts
