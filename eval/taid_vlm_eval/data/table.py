"""The items of a task as a list on disk, with what is known of all of them together."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import overload

import numpy as np

from taid_vlm_eval.arrays import Integers
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.data.picture_table import PictureTable
from taid_vlm_eval.data.spool import Spool
from taid_vlm_eval.marks import Places


class ItemTable(Sequence[Item]):
    """Items in their order. Memory holds some fifty bytes for each and some forty for each picture, whatever they say.

    Args:
        items: all that were read.
        cluster: what a task resamples, see :func:`cluster_of`; None leaves the clusters that they have.
        taken: the places of those that belong to the task, rising; all when left out.
    """

    def __init__(self, items: Spool[Item], cluster: str | None, taken: Integers | None = None) -> None:
        self._items, self._cluster = items, cluster
        self._taken = np.arange(len(items), dtype=np.int32) if taken is None else taken

    def __len__(self) -> int:
        return len(self._taken)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self._with_cluster(self._items[int(place)]) for place in self._taken[index]]
        return self._with_cluster(self._items[int(self._taken[index])])

    def __iter__(self) -> Iterator[Item]:
        if len(self._taken) == len(self._items):
            yield from map(self._with_cluster, self._items)
        else:
            yield from (self[place] for place in range(len(self)))

    def _with_cluster(self, item: Item) -> Item:
        return item if self._cluster is None else replace(item, cluster=cluster_of(item, self._cluster))

    @staticmethod
    def of(items: Sequence[Item]) -> "ItemTable":
        """Items that may be a plain list, as a table."""
        return items if isinstance(items, ItemTable) else ItemTable(Spool(items), None)

    @cached_property
    def places(self) -> Places:
        """Where an id stands."""
        return Places(item.id for item in self)

    @cached_property
    def pictures(self) -> PictureTable:
        """The pictures of the items."""
        return PictureTable(self)


def cluster_of(item: Item, key: str) -> str:
    """What an item is drawn together with: those with the same images, the same question, or none."""
    if key == "image" and item.images:
        return "\n".join(str(path) for path in item.images)
    return item.question if key == "question" else item.id
