"""Rows of plain files: JSON lines, one JSON list, text; a CSV has a file of its own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.data.sources.csv_file import csv_rows
from taid_vlm.data.sources.layout import Layout
from taid_vlm.data.sources.rows import Row, local_path, named_file, picture_folder, shown
from taid_vlm.recipe.data_spec import DataSource


def jsonl_rows(source: DataSource, layout: Layout) -> Iterator[Row]:
    """One JSON object a line. A folder is read as ``<folder>/<split>.jsonl``.

    Raises:
        UserError: the file is not there.
    """
    file = named_file(source, ".jsonl", "one JSON object a line")
    folder = picture_folder(source, file.parent)
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield json_row(line, f"{file}:{number}", folder)


def json_rows(source: DataSource, layout: Layout) -> Iterator[Row]:
    """A JSON list of objects. A folder is read as ``<folder>/<split>.json``.

    Raises:
        UserError: the file is not there, or is no JSON list as a whole.
    """
    file = named_file(source, ".json", "a JSON list of objects")
    folder = picture_folder(source, file.parent)
    try:
        items = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON ({error}); a file with an object a line is kind: jsonl") from error
    if not isinstance(items, list):
        raise UserError(f"{file} holds {shown(items)}; expected a JSON list of objects")
    for index, item in enumerate(items):
        yield _object_row(item, f"{file}#{index}", folder)


def text_rows(source: DataSource, layout: Layout) -> Iterator[Row]:
    """A text file, or each ``.txt`` of a folder and its folders: a document under the text column."""
    path = local_path(source)
    for file in [path] if path.is_file() else sorted(one for one in path.rglob("*.txt") if one.is_file()):
        text = file.read_bytes().decode("utf-8-sig", errors="surrogateescape")
        yield Row(str(file), {layout.columns["text"]: text}, file.parent)


def json_row(raw: bytes, place: str, folder: Path) -> Row:
    """The row that a JSON text holds."""
    try:
        item = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        # The first line of a file that is one list, printed over many lines.
        whole = "; a file that is one JSON list is kind: json" if raw.strip() == b"[" else ""
        return Row(place, {}, folder, f"not JSON ({error}); expected an object{whole}")
    return _object_row(item, place, folder)


def _object_row(item: Any, place: str, folder: Path) -> Row:
    if isinstance(item, dict):
        return Row(place, item, folder)
    whole = "; a file that is one JSON list is kind: json" if isinstance(item, list) else ""
    return Row(place, {}, folder, f"{shown(item)} is no object; expected columns and their values{whole}")


FILES: dict[str, Callable[[DataSource, Layout], Iterator[Row]]] = {
    ".jsonl": jsonl_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".txt": text_rows,
}
