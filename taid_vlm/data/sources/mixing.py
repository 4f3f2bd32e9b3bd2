"""The records of several sources: limits, weights, and nothing that depends on anything but the seed."""

import random
from collections.abc import Callable, Iterable

from taid_vlm.common.errors import UserError
from taid_vlm.common.plug_ins import DATA_SOURCES
from taid_vlm.common.registry import Registry
from taid_vlm.data.record import Record
from taid_vlm.recipe.data_spec import DataSource

Reader = Callable[[DataSource], Iterable[Record]]
SOURCES: Registry[Reader] = Registry("data source", DATA_SOURCES)


def read_records(sources: list[DataSource], seed: int) -> list[Record]:
    """All records of all sources, each as often as its weight says; limits and fractions depend on ``seed`` alone.

    A row that is no conversation keeps its place, as a record that says what is wrong with it.

    Raises:
        UserError: unknown kind, missing files or columns, no records.
    """
    records: list[Record] = []
    for source in sources:
        found = list(SOURCES.get(source.kind)(source))
        if not found:
            raise UserError(f"the source {source.kind} at {source.path} has no records in split {source.split!r}")
        if source.limit is not None and not source.streaming:
            found = _some(found, source.limit, random.Random(seed))
        records += _passes(found, source.weight, seed)
    return records


def _passes(records: list[Record], weight: float, seed: int) -> list[Record]:
    whole, fraction = divmod(weight, 1.0)
    # Not even a small weight makes a source vanish.
    part = max(round(fraction * len(records)), 0 if whole or not records else 1)
    return records * int(whole) + _some(records, part, random.Random(f"fraction {seed}"))


def _some(records: list[Record], count: int, random_numbers: random.Random) -> list[Record]:
    """``count`` of them at random, in their order."""
    if count >= len(records):
        return records
    return [records[i] for i in sorted(random_numbers.sample(range(len(records)), count))]
