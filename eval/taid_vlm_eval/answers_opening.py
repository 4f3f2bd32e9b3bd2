"""Entering an answers file: its folder, its locks, its header, and what becomes of an older file in its place."""

import os
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import disk_errors
from taid_vlm_eval.answers import FORMAT, as_header, line_of, scan
from taid_vlm_eval.locks import SharedLocks


def new_name(path: Path) -> Path:
    """Under which a file is written that is to take the place of ``path``. Who writes it is alone, so what is there is of a dead process."""
    return path.with_name(f".{path.name}.new")


def make_folder(folder: Path) -> None:
    """Make a folder where there is none.

    Raises:
        UserError: a file is in its place, or the disk refuses.
    """
    with disk_errors("answers", folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise UserError(f"{folder} is a file; answers and results need a folder, choose another output") from error


def open_locks(path: Path, first: int) -> SharedLocks:
    """The locks in a file, with the lock of number ``first`` taken."""
    while True:
        locks = SharedLocks(path)
        try:
            locks.wait(first)
            if locks.is_current():
                return locks
        except BaseException:  # stopped by hand, say, while another process writes
            locks.close()
            raise
        locks.close()


def header_of(path: Path) -> dict[str, Any] | None:
    """The header of a file, None where there is no file or it has none of this format."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        first = next(scan(file.fileno(), 0), None)
    return None if first is None else as_header(first[2])


def start_anew(path: Path, wanted: dict[str, Any]) -> str:
    """Write a file of a header alone, whole or not at all; what was there gets the same name with ".old" behind.

    Returns:
        One sentence on what was moved, "" for nothing.
    """
    said = ""
    if path.is_file() and path.stat().st_size > 0:
        path.replace(old := path.with_name(path.name + ".old"))
        said = f"{path} {difference(header_of(old), wanted)}; it is now {old.name}, and every item is asked again"
    new_name(path).write_bytes(line_of({"format": FORMAT, "header": wanted}))
    os.replace(new_name(path), path)
    return said


def difference(found: dict[str, Any] | None, wanted: dict[str, Any]) -> str:
    """How a header that was found is not the one that is wanted, to be put behind the name of its file."""
    if found is None:
        return "is not an answers file of this version"
    keys = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    return f"was made with another {', '.join(keys)}"
