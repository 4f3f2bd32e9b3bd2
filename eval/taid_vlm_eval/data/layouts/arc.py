"""ARC: options are a struct of texts and labels, and some questions label them 1 to 4."""

from collections.abc import Iterable, Iterator

from taid_vlm_eval.data.layouts.registry import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore


@LAYOUTS.register("arc")
def arc(rows: Iterable[Row], open_table: OpenTable, store: PictureStore) -> Iterator[Row]:
    """``choices`` becomes a list of texts, and ``answerKey`` the place of the right one in it."""
    for row in rows:
        choices = row["choices"] or {"text": [], "label": []}
        key = choices["label"].index(row["answerKey"]) if row["answerKey"] in choices["label"] else None
        yield row | {"choices": choices["text"], "answerKey": key}
