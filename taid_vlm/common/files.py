"""Files that are either complete or absent: write to a temporary name, then rename."""

import errno
import hashlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from taid_vlm.common.errors import UserError


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading that a stranger has named: of a pipe the beginning may never come, of a device the end.

    Raises:
        OSError: it is not there, not readable, or no plain file.
    """
    try:
        plain = stat.S_ISREG(path.stat().st_mode)
    except ValueError as error:  # a name that no file can have
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    if not plain:
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return open(path, "rb")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes.

    Raises:
        OSError: see :func:`open_plain`.
    """
    digest = hashlib.sha256()
    with open_plain(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def samples_of(path: Path, places: int, size: int) -> Iterator[bytes]:
    """What stands at some evenly spaced places of a large file, ``size`` bytes at each, the first at its start and the last at its end."""
    last = max(0, path.stat().st_size - size)
    with open(path, "rb") as file:
        for place in range(places):
            file.seek(last * place // (places - 1))
            yield file.read(size)


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Refuse to start writing what cannot fit.

    Raises:
        UserError: the file system of ``folder`` has fewer than ``needed_bytes`` free.
    """
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise UserError(
            f"no space for {what}: {free / 1e6:.0f} MB free at {existing}, {needed_bytes / 1e6:.0f} MB needed; "
            f"free some space or choose another folder"
        )


# Libraries that write from native code tell of a full disk in words of their own: safetensors in the text of its
# error, torch.save by the name of the file that found fewer bytes than it wrote.
FULL_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_WORDS = ("No space left", "File too large", "quota exceeded", "PytorchStreamWriter", "inline_container")
DENIED_ERRNO = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


@contextmanager
def disk_errors(what: str, where: Path) -> Iterator[None]:
    """Turn "no space left", "quota exceeded" and "read-only" met while writing into a message for the user."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in FULL_ERRNO or any(word in str(error) for word in FULL_WORDS):
            raise UserError(
                f"no space left while writing {what} to {where}; what was complete before is intact. "
                f"Free some space and start the same command again"
            ) from error
        if number in DENIED_ERRNO:
            reason = os.strerror(number) if number else error
            raise UserError(f"cannot write {what} to {where}: {reason}; choose another folder") from error
        raise


def fsync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable, where the system allows a folder to be synced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write ``data`` so that ``path`` holds either the old content or all of the new one."""
    raw = data.encode() if isinstance(data, str) else data
    with disk_errors(path.name, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    fsync_folder(path.parent)


def write_drawn(path: Path, draw: Callable[[BinaryIO], object]) -> None:
    """The same of a picture, which ``draw`` writes into the file that it is given."""
    file = io.BytesIO()
    draw(file)
    write_atomic(path, file.getvalue())


def _settle(file: Path) -> None:
    os.chmod(file, 0o644)
    with open(file, "rb") as written:
        os.fsync(written.fileno())


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` when the block ends without an error.

    An existing ``path`` is replaced only once the new one is complete: the old folder is moved aside,
    the new one takes its name, the old one is removed. A kill between the two renames leaves
    the new folder under its temporary name, never half-written.
    """
    with disk_errors(path.name, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.new-"))
        try:
            yield temporary
            # Temporary folders, and files that native code writes, are readable by their owner alone.
            os.chmod(temporary, 0o755)
            # On the disk, before the name says that it is complete. At the same time, so that the file system writes its
            # journal once for many files: one after the other, thousands of small pictures take half a minute.
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(_settle, (file for file in temporary.rglob("*") if file.is_file())))
            if path.exists():
                aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old-"))
                os.replace(path, aside / path.name)
                os.replace(temporary, path)
                shutil.rmtree(aside, ignore_errors=True)
            else:
                os.replace(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    fsync_folder(path.parent)
