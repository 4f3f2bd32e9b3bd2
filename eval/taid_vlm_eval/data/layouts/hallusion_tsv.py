"""HallusionBench as VLMEvalKit has it: what belongs together stands in the index, and questions without a picture are left out."""

from collections.abc import Iterable, Iterator

from taid_vlm_eval.data.layouts.registry import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore

PLACES = {"set_id": 3, "figure_id": 4, "question_id": 5}


@LAYOUTS.register("hallusion_tsv")
def hallusion_tsv(rows: Iterable[Row], open_table: OpenTable, store: PictureStore) -> Iterator[Row]:
    """Adds ``set_id``, ``figure_id`` and ``question_id``, the fourth to sixth part of an index such as "VD_figure_1_0_1_2"."""
    for row in rows:
        if not row["image"]:
            continue
        parts = [*str(row["index"]).split("_"), *[""] * 6]
        yield row | {name: parts[place] for name, place in PLACES.items()}
