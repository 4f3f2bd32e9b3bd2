"""MMMU: pictures are named in question and options, options are a list written as text, open questions stand between."""

import re
from collections.abc import Iterable, Iterator

from taid_vlm_eval.data.layouts.registry import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore

_MARK = re.compile(r"<image (\d+)>")
LETTER = "\n\nAnswer with the option's letter from the given choices directly."
WORD = "\n\nAnswer the question using a single word or phrase."


@LAYOUTS.register("mmmu")
def mmmu(rows: Iterable[Row], open_table: OpenTable, store: PictureStore) -> Iterator[Row]:
    """Adds ``images``, those that question or options name as "<image 2>", by number, the ``instruction`` and the ``subject``.

    The marks stay in the text, as they tell which picture is meant. Open questions have no options.
    """
    for row in rows:
        named = sorted({int(number) for number in _MARK.findall(f"{row['question']}\n{row['options']}")})
        # A question that names none is about all it has.
        named = named or [number for number in range(1, 8) if row.get(f"image_{number}")]
        images = [row.get(f"image_{number}") or ValueError(f"no picture {number}") for number in named]
        is_open = row["question_type"] == "open"
        # "validation_Art_Theory_3"
        subject = "_".join(str(row["id"]).split("_")[1:-1])
        extra = {"images": images, "instruction": WORD if is_open else LETTER, "subject": subject}
        yield row | extra | ({"options": None} if is_open else {})
