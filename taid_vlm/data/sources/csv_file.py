"""Rows of a CSV with a header.

A quote that is opened and not closed would take all lines up to the next quote into one field. Such a line is told for itself, and the lines
behind it are read as the rows that they are.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from taid_vlm.common.errors import UserError
from taid_vlm.data.sources.layout import Layout
from taid_vlm.data.sources.rows import Row, local_path, named_file, picture_folder
from taid_vlm.recipe.data_spec import DataSource

LARGEST_FIELD = 2**31 - 1  # the module's own limit is 128 KiB
STRAY = "not a line of a CSV"
END = "unexpected end of data"  # as the module says it
UNCLOSED = "a quote is opened on this line and not closed; close it, or write a quote inside a field twice"


def csv_rows(source: DataSource, layout: Layout) -> Iterator[Row]:
    """A CSV with a header. A folder is read as ``<folder>/<split>.csv``, or the one CSV that it holds.

    Columns are separated by commas, or by semicolons or tabs where the header has no comma.

    Raises:
        UserError: the file, its header or a column is not there.
    """
    path = local_path(source)
    only = sorted(path.glob("*.csv")) if path.is_dir() else []
    file = only[0] if len(only) == 1 else named_file(source, ".csv", "a header and a sample a line")
    folder = picture_folder(source, file.parent)
    csv.field_size_limit(LARGEST_FIELD)
    # What is not UTF-8 becomes lone surrogates, so that only its own row is refused.
    with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        lines = Lines(list(stream))
    if not lines.all:
        raise UserError(f"{file} is empty; expected a header such as image,question,answer")
    try:
        header = lines.record()
    except csv.Error as error:
        raise UserError(f"{file}: the header is not a line of a CSV ({error})") from error
    layout.check(header, str(file))
    yield from _rows(lines, header, file, folder)


class Lines:
    """The lines of a CSV, what separates its columns, and which line comes next."""

    def __init__(self, lines: list[str]) -> None:
        self.all, self.next = lines, 0
        first = lines[0] if lines else ""
        self.separator = next((one for one in (",", ";", "\t") if one in first), ",")
        self._reader = csv.reader(self, strict=True, delimiter=self.separator)

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        if self.next == len(self.all):
            raise StopIteration
        self.next += 1
        return self.all[self.next - 1]

    def record(self) -> list[str]:
        """The fields of the next record, which may have several lines.

        Raises:
            csv.Error: it is none.
        """
        return next(self._reader)

    def width(self, line: str) -> int:
        """How many fields a line has that stands alone; 0 of one that cannot."""
        try:
            return len(next(csv.reader([line], strict=True, delimiter=self.separator)))
        except csv.Error:
            return 0


def _rows(lines: Lines, header: list[str], file: Path, folder: Path) -> Iterator[Row]:
    in_doubt = False
    while lines.next < len(lines.all):
        start = lines.next
        fields, wrong = _fields(lines, len(header))
        in_doubt = in_doubt and lines.next == start + 1 and _may_go_on(lines, lines.all[start], len(header))
        if fields:
            wrong = "the end of a field in which a quote is not written twice" if in_doubt else None
            cells = dict(zip(header, fields, strict=True)) if wrong is None else {}
            yield Row(f"{file}:{start + 1}", cells, folder, wrong)
        elif wrong is not None:
            yield Row(f"{file}:{start + 1}", {}, folder, _go_on(lines, start, len(header), wrong))
        # What follows a line with a stray quote may be the rest of its field.
        in_doubt = wrong is not None and wrong.startswith(STRAY)


def _may_go_on(lines: Lines, line: str, width: int) -> bool:
    """Whether a line may be the rest of a quoted field rather than a row: it has half of a pair of quotes, and the half ends a
    field or the line is no row by itself."""
    if line.count('"') % 2 == 0:
        return False
    closes = any(field.rstrip().endswith('"') for field in line.split(lines.separator))
    return closes or lines.width(line) != width


def _fields(lines: Lines, width: int) -> tuple[list[str], str | None]:
    """The fields of the next record, and what is wrong with it; neither of an empty line."""
    try:
        fields = lines.record()
    except csv.Error as error:
        return [], END if END in str(error) else f"{STRAY} ({error})"
    return (fields, None) if len(fields) in (0, width) else ([], f"{len(fields)} fields; the header has {width}")


def _go_on(lines: Lines, start: int, width: int, wrong: str) -> str:
    """Go on behind a broken record, or behind its first line where others were taken into it; and what to say of it."""
    past = lines.next
    # At the last line it went wrong, unless that only ended the record, or the file.
    last = past - 1 if wrong.startswith(STRAY) and past > start + 1 else past
    inside = [line for line in lines.all[start + 1 : last] if line.strip()]
    if 2 * sum(lines.width(line) == width for line in inside) > len(inside) or (past > start + 1 == last):
        lines.next = start + 1
        return UNCLOSED
    lines.next = last
    if last > start + 1:
        return f"lines {start + 1} to {last} are no row: {UNCLOSED if wrong == END else wrong}"
    return UNCLOSED if wrong == END else wrong
