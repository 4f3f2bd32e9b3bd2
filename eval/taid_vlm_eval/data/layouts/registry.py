"""The registry of layouts, and what one is."""

from collections.abc import Callable, Iterable, Iterator

from taid_vlm.common.registry import Registry
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore

OpenTable = Callable[
    ..., Iterable[Row]
]  # (config, split): rows of another table of the data set; the task's split when left out
Layout = Callable[[Iterable[Row], OpenTable, PictureStore], Iterator[Row]]
LAYOUTS: Registry[Layout] = Registry("layout")
