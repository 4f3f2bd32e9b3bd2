"""MMLU with five solved examples: the first five of the subject's development questions."""

from collections.abc import Iterable, Iterator

from taid_vlm_eval.data.layouts.registry import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore

EXAMPLES, SPLIT = 5, "dev"


@LAYOUTS.register("mmlu_5_shot")
def mmlu_5_shot(rows: Iterable[Row], open_table: OpenTable, store: PictureStore) -> Iterator[Row]:
    """``question`` becomes the whole prompt of lm-evaluation-harness: its sentence on the subject, the examples, and the question with
    its options, up to "Answer:"."""
    examples: dict[str, list[str]] = {}
    for row in open_table("all", SPLIT):
        solved = f"{_asked(row)} {'ABCD'[row['answer']]}\n\n"
        examples.setdefault(row["subject"], []).append(solved)
    for row in rows:
        subject = (row["subject"] or "").replace("_", " ")
        opening = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        shown = "".join(examples.get(row["subject"], [])[:EXAMPLES])
        yield row | {"question": row["question"] and opening + shown + _asked(row)}


def _asked(row: Row) -> str:
    lines = [f"{letter}. {text}" for letter, text in zip("ABCD", row["choices"] or (), strict=False)]
    return "\n".join([(row["question"] or "").strip(), *lines, "Answer:"])
