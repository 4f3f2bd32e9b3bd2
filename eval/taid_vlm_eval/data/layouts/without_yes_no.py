"""MME: a question ends in a request that the prompt of the task replaces."""

from collections.abc import Iterable, Iterator

from taid_vlm_eval.data.layouts.registry import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore

REQUEST = " Please answer yes or no."


@LAYOUTS.register("without_yes_no")
def without_yes_no(rows: Iterable[Row], open_table: OpenTable, store: PictureStore) -> Iterator[Row]:
    """Takes the request to answer yes or no out of the question."""
    for row in rows:
        yield row | {"question": (row["question"] or "").replace(REQUEST, "").strip()}
