"""Rows of parquet and TSV files: one mapping of column to cell each, read in pieces."""

import ast
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm_eval.data.spool import Spool
from taid_vlm_eval.data.store import PictureStore

Row = dict[str, Any]
_AT_ONCE = 32  # rows of a parquet file in memory, their pictures among them
_BUFFER = 1 << 20  # bytes read at once; what is in memory is one row group at most
_LONGEST_REFERENCE = 64  # shorter image cells of VLMEvalKit's files name the row that holds the picture


def parquet_rows(files: Sequence[Path]) -> Iterator[Row]:
    """The rows of several files, one file after the other.

    Raises:
        UserError: a file is damaged or no parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in files:
        try:
            file = pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
            for batch in file.iter_batches(batch_size=_AT_ONCE):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"{path} does not read as parquet ({' '.join(str(error).split())[:200]}); fetch the file again"
            ) from error


@dataclass(frozen=True)
class TsvTable:
    """The rows of a TSV file, on disk.

    Attributes:
        header: the columns, ``image`` among them; empty when there are no rows.
        has_pictures: whether any row shows one.
        owners: rows that others refer to for their picture, by ``index``.
    """

    header: tuple[str, ...]
    has_pictures: bool
    stored: Spool[Row]
    owners: dict[str, int]

    def rows(self) -> Iterator[Row]:
        """The rows in order, references resolved."""
        for row in self.stored:
            if isinstance(row["image"], str):
                owner = self.owners.get(row["image"])
                lost = [ValueError(f"no row {row['image']!r} with the picture")]
                row["image"] = lost if owner is None else self.stored[owner]["image"]
            yield row


def tsv_rows(path: Path, store: PictureStore) -> TsvTable:
    """The rows of a TSV file as VLMEvalKit has it; the cells of pictures become lists of paths, under ``image``.

    ``image`` holds base64, a list of base64 written as text, or, up to 64 characters, the index of the row that holds the
    picture, before or after this one. Without it, ``image_path`` holds a path relative to the file, or a list of them. A picture that does
    not read stays as ``ValueError`` in the list.

    Raises:
        UserError: no header of columns between tabs, not UTF-8, or a row with another number of cells.
    """
    stored: Spool[Row] = Spool()
    header: tuple[str, ...] = ()
    has_pictures = False
    wanted: set[str] = set()
    for cells in csv_rows(path):
        row = _with_pictures(cells, store)
        header = header or tuple(row)
        has_pictures = has_pictures or bool(row["image"])
        if isinstance(row["image"], str):
            wanted.add(row["image"])
        stored.append(row)
    owners: dict[str, int] = {}
    for place, row in enumerate(stored if wanted else ()):
        if row.get("index") in wanted and isinstance(row["image"], list):
            owners[row["index"]] = place
    return TsvTable(header, has_pictures, stored, owners)


def csv_rows(path: Path) -> Iterator[Row]:
    """The rows of a TSV file, all cells as text.

    Raises:
        UserError: see :func:`tsv_rows`.
    """
    limit = csv.field_size_limit(sys.maxsize)  # cells hold whole pictures
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t")
            header = next(reader, [])
            if len(header) < 2 or "question" not in header:
                raise UserError(f"{path}: the first line is {header!r:.200}, expected names of columns between tabs")
            for cells in reader:
                if len(cells) != len(header):
                    raise UserError(
                        f"{path}, line {reader.line_num}: found {len(cells)} cells, expected {len(header)} as in the first line"
                    )
                yield dict(zip(header, cells, strict=True))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path} does not read as TSV: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _with_pictures(row: Row, store: PictureStore) -> Row:
    cell = row.get("image") or ""
    if 0 < len(cell) <= _LONGEST_REFERENCE and not cell.startswith("["):
        return row  # a reference, resolved when all rows are known
    try:
        if cell:
            row["image"] = [store.put_base64(one) for one in listed(cell)]
        else:
            paths = [store.put(one) for one in listed(row.get("image_path") or "")]
            row["image"] = [one for one in paths if one is not None]
    except ValueError as error:
        row["image"] = [error]
    return row


def listed(text: str) -> list[str]:
    """The entries of a list written as text, else the text alone, nothing of an empty one.

    Raises:
        ValueError: it begins like a list and is none.
    """
    if not text.startswith("["):
        return [text] if text else []
    try:
        found = ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"{text[:60]!r} begins like a list and is none") from error
    return [str(one) for one in found]
