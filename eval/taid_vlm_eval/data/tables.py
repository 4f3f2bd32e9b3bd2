"""Data sets as tables, the sources ``hub`` and ``tsv``: rows are found, laid out, sifted, and become items."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm_eval.data.columns import make_item, require_columns, require_keys
from taid_vlm_eval.data.hub import configs_of, files_of, own_folder
from taid_vlm_eval.data.item import SOURCES, Item
from taid_vlm_eval.data.layouts import LAYOUTS, OpenTable
from taid_vlm_eval.data.rows import Row, parquet_rows, tsv_rows
from taid_vlm_eval.data.store import PictureStore
from taid_vlm_eval.task import Data

# Columns of VLMEvalKit's files; a task need only name what is different.
_TSV = {
    "id": "index",
    "question": "question",
    "answer": "answer",
    "images": "image",
    "options": list("ABCDEFGHIJ"),
    "hint": "hint",
    "category": "category",
    "l2_category": "l2-category",
}


@SOURCES.register("hub")
def read_hub(root: Path, data: Data) -> Iterator[Item]:
    """A data set in parquet files, as the hub has them.

    Raises:
        UserError: no such config, split or column, a damaged file, an unknown layout.
    """

    def open_table(config: str, split: str = "") -> Iterator[Row]:
        return parquet_rows(files_of(root, config, split or data.split))

    store = PictureStore(cache_folder() / "pictures", beside=root if root.is_dir() else root.parent)
    rows = chain.from_iterable(open_table(config) for config in configs_of(data))
    return _items(rows, data, open_table, store, str(root))


@SOURCES.register("tsv")
def read_tsv(path: Path, data: Data) -> Iterator[Item]:
    """A file of VLMEvalKit, see :func:`tsv_rows`; ``data.columns`` replaces single entries of the usual columns.

    Raises:
        UserError: not such a file, no such column, an unknown layout.
    """

    def open_table(config: str, split: str = "") -> Iterator[Row]:
        raise UserError(f"{path} is one table, the layout {data.layout!r} needs {config!r} too")

    store = PictureStore(cache_folder() / "pictures", beside=path.parent)
    table = tsv_rows(path, store)
    usual = {key: name for key, name in _TSV.items() if isinstance(name, list) or name in table.header}
    if not table.has_pictures:
        usual.pop("images", None)
    columns: dict[str, str | list[str]] = {**usual, **data.columns}
    return _items(table.rows(), replace(data, columns=columns), open_table, store, str(path))


def _items(rows: Iterable[Row], data: Data, open_table: OpenTable, store: PictureStore, where: str) -> Iterator[Item]:
    require_keys(data)
    if data.layout:
        rows = _laid_out(rows, data.layout, open_table, store, where)
    for number, row in enumerate(rows):
        if number == 0:
            require_columns(data, row, where)
        if all(_value(row, column) in _wanted(values) for column, values in data.keep.items()):
            yield make_item(row, number, data, store)


def _laid_out(
    rows: Iterable[Row], layout: str, open_table: OpenTable, store: PictureStore, where: str
) -> Iterator[Row]:
    try:
        yield from LAYOUTS.get(layout)(rows, open_table, store)
    except KeyError as error:
        raise UserError(f"{where} has no column {error}, which the layout {layout!r} needs") from error


def _value(row: Row, column: str) -> str:
    if column not in row:
        raise UserError(f"data.keep names the column {column!r}, which is not in the data")
    return str(row[column])


def _wanted(values: str | list[str]) -> list[str]:
    return [values] if isinstance(values, str) else values


def tsv_file(data: Data, beside: Path) -> Path:
    """The TSV file of a task: beside the task, in ``$LMUData`` or ``~/LMUData``, where VLMEvalKit keeps it, or in the cache.

    Raises:
        UserError: it is nowhere; the message says where to have it and where to put it.
    """
    lmu = Path(os.environ.get("LMUData") or "~/LMUData").expanduser()  # noqa: SIM112 (VLMEvalKit writes it so)
    places = [beside / Path(data.path).expanduser(), lmu / data.path, own_folder(data.path)]
    for place in places:
        if place.is_file():
            return place
    source = f"fetch {data.url} and put it into" if data.url else "put it into"
    raise UserError(f"no file {data.path}; {source} {lmu} or {places[-1].parent}")
