"""Locks that processes on one or several machines share by a file, and that the system releases when a process dies.

They are POSIX record locks: each locks one byte of a file that stays empty. They work on local disks and on network file systems
that pass locks on (NFS does). No process waits for one that is dead, and none needs to know how many there are.
"""

import errno
import os
from pathlib import Path

from taid_vlm.common.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TAKEN = (errno.EACCES, errno.EAGAIN)
_in_use: set[Path] = set()  # the system counts locks by process: it would not see a second user inside this one


class SharedLocks:
    """Locks by number, from 0. A context manager; the file is made here, and left for :meth:`remove`.

    Attributes:
        shared: whether other processes see them. Where the file system has no locks every one is granted.

    Raises:
        UserError: this process has these locks open already.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        if self.path in _in_use:
            raise UserError(f"{path.parent} is in use by another evaluation in this process; let it finish first")
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.shared = fcntl is not None
        _in_use.add(self.path)

    def wait(self, number: int, *, exclusive: bool = True) -> None:
        """Take a lock, when whoever has it lets go."""
        self._lock(number, exclusive, block=True)

    def take(self, number: int, count: int = 1, *, exclusive: bool = True) -> bool:
        """Take a lock, or as many from it on as ``count`` says, all or none; False when another process has any of them.

        One that is not exclusive can be had by several at a time.
        """
        return self._lock(number, exclusive, block=False, count=count)

    def release(self, number: int, count: int = 1) -> None:
        """Let go of a lock, or of as many from it on as ``count`` says."""
        if self.shared:
            fcntl.lockf(self._handle, fcntl.LOCK_UN, count, number)

    def _lock(self, number: int, exclusive: bool, block: bool, count: int = 1) -> bool:
        if not self.shared:
            return True
        kind = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if block else fcntl.LOCK_NB)
        try:
            fcntl.lockf(self._handle, kind, count, number)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            self.shared = False
        return True

    def is_current(self) -> bool:
        """Whether the file is still the one of that name. Another process may have removed it just before a lock was taken."""
        return is_in_place(self.path, self._handle)

    def remove(self) -> None:
        """Remove the file; only for one who knows that nobody else has a lock."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of all locks."""
        if self.path in _in_use:
            _in_use.remove(self.path)
            os.close(self._handle)

    def __enter__(self) -> "SharedLocks":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_in_place(path: Path, handle: int) -> bool:
    """Whether the file that is open is still the one of that name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
