"""Answers that the student wrote, kept to be learnt from again."""

from collections import deque
from typing import Any, NamedTuple

import torch


class Written(NamedTuple):
    """An answer by the token ids that the student wrote, to the question of the record at a place in the training data."""

    place: int
    ids: list[int]


class ReplayBuffer:
    """The newest ``capacity`` answers; pictures are not kept, they are read again."""

    def __init__(self, capacity: int) -> None:
        self._kept: deque[Written] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def full(self) -> bool:
        """Whether each further answer pushes out the oldest."""
        return len(self._kept) == self._kept.maxlen

    def add(self, written: Written) -> None:
        """Keep an answer, in the place of the oldest where there is no other."""
        self._kept.append(written)

    def draw(self, count: int, generator: torch.Generator) -> list[Written]:
        """Random answers, none twice before all are drawn; none at all from an empty buffer."""
        if not self._kept:
            return []
        order = torch.randperm(len(self._kept), generator=generator).tolist()
        return [self._kept[order[place % len(order)]] for place in range(count)]

    def state_dict(self) -> dict[str, Any]:
        """Tensors: places, lengths, and all ids one after the other."""
        ids = [token for written in self._kept for token in written.ids]
        return {
            "places": torch.tensor([written.place for written in self._kept], dtype=torch.int64),
            "lengths": torch.tensor([len(written.ids) for written in self._kept], dtype=torch.int64),
            "ids": torch.tensor(ids, dtype=torch.int32),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the answers back in their order."""
        self._kept.clear()
        pieces = state["ids"].split(state["lengths"].tolist())
        places = state["places"].tolist()
        self._kept.extend(Written(place, ids.tolist()) for place, ids in zip(places, pieces, strict=True))
