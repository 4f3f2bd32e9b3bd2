"""MMBench: rows whose index differs by a multiple of a million are rotations of one question."""

from collections.abc import Iterable, Iterator

from taid_vlm_eval.data.layouts.registry import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore

ROTATION = 1_000_000


@LAYOUTS.register("circular")
def circular(rows: Iterable[Row], open_table: OpenTable, store: PictureStore) -> Iterator[Row]:
    """Adds ``group``, the index of the question that a row is a rotation of. The rotations stand in the data."""
    for row in rows:
        index = str(row["index"])
        yield row | {"group": str(int(index) % ROTATION) if index.isdecimal() else index}
