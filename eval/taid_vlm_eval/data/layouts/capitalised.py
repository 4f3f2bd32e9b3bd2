"""TextVQA and VizWiz: questions are asked with a capital at the start and small letters after it."""

from collections.abc import Iterable, Iterator

from taid_vlm_eval.data.layouts.registry import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore


@LAYOUTS.register("capitalised")
def capitalised(rows: Iterable[Row], open_table: OpenTable, store: PictureStore) -> Iterator[Row]:
    """As lmms-eval asks them, so that figures can be compared."""
    for row in rows:
        yield row | {"question": row["question"].capitalize() if row["question"] else row["question"]}
