"""Rows of plain files: JSON lines, one JSON list, CSV, text."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.data.sources.layout import Layout
from taid_vlm.data.sources.rows import Row, local_path, picture_folder, shown
from taid_vlm.recipe.schema import DataSource

LARGEST_FIELD = 2**31 - 1  # of a CSV; the module's own limit is 128 KiB


def jsonl_rows(source: DataSource, layout: Layout) -> Iterator[Row]:
    """One JSON object a line. A folder is read as ``<folder>/<split>.jsonl``.

    Raises:
        UserError: the file is not there.
    """
    file = _file(source, ".jsonl", "one JSON object a line")
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
    file = _file(source, ".json", "a JSON list of objects")
    folder = picture_folder(source, file.parent)
    try:
        items = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON ({error}); a file with an object a line is kind: jsonl") from error
    if not isinstance(items, list):
        raise UserError(f"{file} holds {shown(items)}; expected a JSON list of objects")
    for index, item in enumerate(items):
        yield _object_row(item, f"{file}#{index}", folder)


def csv_rows(source: DataSource, layout: Layout) -> Iterator[Row]:
    """A CSV with a header. A folder is read as ``<folder>/<split>.csv``, or the one CSV that it holds.

    Raises:
        UserError: the file, its header or a column is not there.
    """
    path = local_path(source)
    only = sorted(path.glob("*.csv")) if path.is_dir() else []
    file = only[0] if len(only) == 1 else _file(source, ".csv", "a header and a sample a line")
    folder = picture_folder(source, file.parent)
    csv.field_size_limit(LARGEST_FIELD)
    # What is not UTF-8 becomes lone surrogates, so that only its own row is refused.
    with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.reader(lines)
        header = next(reader, None)
        if header is None:
            raise UserError(f"{file} is empty; expected a header such as image,question,answer")
        layout.check(header, str(file))
        while True:
            place = f"{file}:{reader.line_num + 1}"
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(place, {}, folder, f"not a line of a CSV ({error})")
                continue
            if len(fields) == len(header):
                yield Row(place, dict(zip(header, fields, strict=True)), folder)
            elif fields:
                yield Row(place, {}, folder, f"{len(fields)} fields; the header has {len(header)}")


def text_rows(source: DataSource, layout: Layout) -> Iterator[Row]:
    """A text file, or each ``.txt`` of a folder and its folders: a document under the text column."""
    path = local_path(source)
    for file in [path] if path.is_file() else sorted(path.rglob("*.txt")):
        text = file.read_bytes().decode("utf-8-sig", errors="surrogateescape")
        yield Row(str(file), {layout.columns["text"]: text}, file.parent)


def json_row(raw: bytes, place: str, folder: Path) -> Row:
    """The row that a JSON text holds."""
    try:
        item = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return Row(place, {}, folder, f"not JSON ({error}); expected an object")
    return _object_row(item, place, folder)


def _object_row(item: Any, place: str, folder: Path) -> Row:
    if isinstance(item, dict):
        return Row(place, item, folder)
    return Row(place, {}, folder, f"{shown(item)} is no object; expected columns and their values")


def _file(source: DataSource, suffix: str, holds: str) -> Path:
    path = local_path(source)
    file = path / f"{source.split}{suffix}" if path.is_dir() else path
    if not file.is_file():
        there = ", ".join(sorted(one.name for one in file.parent.glob(f"*{suffix}"))[:8])
        beside = f"; beside it are {there}" if there else ""
        raise UserError(f"data file not found: {file}; expected {holds}{beside}")
    return file


FILES: dict[str, Callable[[DataSource, Layout], Iterator[Row]]] = {
    ".jsonl": jsonl_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".txt": text_rows,
}
