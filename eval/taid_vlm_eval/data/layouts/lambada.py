"""LAMBADA: a passage, and its last word, which only the whole passage tells."""

from collections.abc import Iterable, Iterator

from taid_vlm_eval.data.layouts.registry import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore


@LAYOUTS.register("lambada")
def lambada(rows: Iterable[Row], open_table: OpenTable, store: PictureStore) -> Iterator[Row]:
    """Adds ``passage``, the ``text`` up to its last space, and ``word``, what is behind it."""
    for row in rows:
        passage, _, word = str(row.get("text") or "").rpartition(" ")
        yield row | {"passage": passage, "word": word}
