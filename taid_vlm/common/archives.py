"""Archives of others, unpacked: every member becomes a plain file below one folder, or nothing is kept."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from taid_vlm.common.errors import UserError


def unpack_zip(file: Path, folder: Path, most_bytes: int) -> None:
    """Unpack a zip file (a wheel is one) into an existing empty folder.

    Args:
        most_bytes: that all members may hold together, unpacked; a few kilobytes can be packed terabytes.

    Raises:
        UserError: no whole zip file, or a member that leaves the folder, is a link or a device, is there twice or encrypted, or too much.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check(file.name, members, most_bytes)
            for member in members:
                target = folder / member.filename
                if member.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                # No more than the stated size is ever read of a member; "x" takes no name that is taken.
                with archive.open(member) as packed, target.open("xb") as plain:
                    shutil.copyfileobj(packed, plain)
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        EOFError,
        FileExistsError,
        NotADirectoryError,
    ) as error:
        raise UserError(f"{file.name} is damaged ({error}); not unpacked") from error


def _check(name: str, members: list[zipfile.ZipInfo], most_bytes: int) -> None:
    seen: set[PurePosixPath] = set()
    for member in members:
        path, shown = PurePosixPath(member.filename), f"{name} holds {member.filename!r},"
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename or PureWindowsPath(path).drive:
            raise UserError(f"{shown} a path that leaves its folder; not unpacked")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{shown} which is a link or a device; not unpacked")
        if path in seen:
            raise UserError(f"{shown} a name that is there twice; not unpacked")
        if member.flag_bits & 1:
            raise UserError(f"{shown} which is encrypted; not unpacked")
        seen.add(path)
    total = sum(member.file_size for member in members)
    if total > most_bytes:
        raise UserError(
            f"{name} would unpack to {total:,} bytes, more than the {most_bytes:,} that it may; not unpacked"
        )
