"""BLINK: the request names the letters that the question has."""

from collections.abc import Iterable, Iterator

from taid_vlm_eval.data.layouts.registry import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore


@LAYOUTS.register("blink")
def blink(rows: Iterable[Row], open_table: OpenTable, store: PictureStore) -> Iterator[Row]:
    """Puts the request before ``prompt``, which shows question and options."""
    for row in rows:
        letters = ", ".join(chr(ord("A") + place) for place in range(len(row["choices"] or ())))
        note = f"Note: You only need to respond with {letters} without providing any additional information.\n"
        yield row | {"prompt": row["prompt"] and note + row["prompt"]}
