"""The registry of layouts, and what one is."""

from collections.abc import Callable, Iterable, Iterator

from taid_vlm.common.registry import Registry
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore

OpenTable = Callable[[str], Iterable[Row]]  # the rows of another config of the data set
Layout = Callable[[Iterable[Row], OpenTable, PictureStore], Iterator[Row]]
LAYOUTS: Registry[Layout] = Registry("layout")
