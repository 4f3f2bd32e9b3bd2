"""GQA: questions and pictures are two tables."""

from collections.abc import Iterable, Iterator

from taid_vlm_eval.data.layouts.registry import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore

PICTURES = "testdev_balanced_images"


@LAYOUTS.register("gqa")
def gqa(rows: Iterable[Row], open_table: OpenTable, store: PictureStore) -> Iterator[Row]:
    """Adds ``image``, the picture whose ``id`` is the question's ``imageId``."""
    pictures = {row["id"]: store.put(row["image"]) for row in open_table(PICTURES)}
    for row in rows:
        found = pictures.get(row["imageId"])
        yield row | {"image": ValueError(f"no picture {row['imageId']!r}") if found is None else found}
