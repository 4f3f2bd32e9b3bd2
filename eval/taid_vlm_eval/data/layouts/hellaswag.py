"""HellaSwag: a beginning and four endings, cleaned of what WikiHow's pages left in them."""

import re
from collections.abc import Iterable, Iterator

from taid_vlm_eval.data.layouts.registry import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore

_BRACKETS = re.compile(r"\[.*?\]")


def cleaned(text: str) -> str:
    """As lm-evaluation-harness cleans: a title becomes a new sentence, other bracketed marks go, double spaces become single once."""
    return _BRACKETS.sub("", text.strip().replace(" [title]", ". ")).replace("  ", " ")


@LAYOUTS.register("hellaswag")
def hellaswag(rows: Iterable[Row], open_table: OpenTable, store: PictureStore) -> Iterator[Row]:
    """Adds ``query``, the activity and the beginning with its second part capitalised; cleans it and the ``endings``."""
    for row in rows:
        activity, first, second = (row[name] or "" for name in ("activity_label", "ctx_a", "ctx_b"))
        beginning = f"{activity}: {first} {second.capitalize()}" if activity or first else ""
        yield row | {"query": cleaned(beginning), "endings": [cleaned(one) for one in row["endings"] or ()]}
