"""A lock on a file, for the processes of one machine. That of a dead process is free."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nobody waits, and whoever writes last stays
    fcntl = None  # type: ignore[assignment]


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process is inside with the same ``lock``, a file that is made where it is missing, and stays empty."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "ab") as held:
        if fcntl is not None:
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextmanager
def alone_or_not(lock: Path) -> Iterator[bool]:
    """As :func:`alone`, without waiting: gives whether no other process is inside."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "ab") as held:
        try:
            if fcntl is not None:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
