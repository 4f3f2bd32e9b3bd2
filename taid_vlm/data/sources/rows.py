"""A row of a source, whatever the file it stands in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve
from taid_vlm.recipe.data_spec import DataSource


@dataclass(frozen=True)
class Row:
    """Columns and their values, or why they cannot be had.

    Attributes:
        place: file and line, or set and row.
        folder: where relative picture paths start.
        unreadable: what is wrong, for a row that is no row.
    """

    place: str
    cells: Mapping[str, Any]
    folder: Path
    unreadable: str | None = None


def local_path(source: DataSource) -> Path:
    """Where the source is on this machine; it need not be there."""
    return Path(resolve(source.path)).expanduser()


def picture_folder(source: DataSource, beside: Path) -> Path:
    """Where relative picture paths start: the folder that the recipe names, or that of the data file.

    Raises:
        UserError: the named folder is not there.
    """
    if source.image_folder is None:
        return beside
    folder = Path(resolve(source.image_folder)).expanduser()
    if not folder.is_dir():
        raise UserError(f"image_folder not found: {folder}; it is where the picture paths of {source.path} start")
    return folder


def named_file(source: DataSource, suffix: str, holds: str) -> Path:
    """The file of a source; of a folder ``<folder>/<split><suffix>``.

    Raises:
        UserError: it is not there; with what it should hold, and what is beside it.
    """
    path = local_path(source)
    file = path / f"{source.split}{suffix}" if path.is_dir() else path
    if not file.is_file():
        there = ", ".join(sorted(one.name for one in file.parent.glob(f"*{suffix}"))[:8])
        beside = f"; beside it are {there}" if there else ""
        raise UserError(f"data file not found: {file}; expected {holds}{beside}")
    return file


def names(keys: Iterable[Any], most: int = 20) -> list[str]:
    """Some keys as they can be told, in their order."""
    return [str(key)[:40] for key in islice(keys, most)]


def shown(value: Any, most: int = 80) -> str:
    """A value in a message: its beginning, however long it is."""
    if isinstance(value, (str, bytes)) and len(value) > most:
        return f"{value[:most]!r}... ({len(value):,} long)"
    if isinstance(value, (list, dict)) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value):,}"
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
