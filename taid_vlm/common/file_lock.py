"""A lock on a file, for the processes of one machine. That of a dead process is free."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: nobody waits, and whoever writes last stays
    fcntl = None  # type: ignore[assignment]

BETWEEN = 0.2  # seconds between two tries


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process is inside with the same ``lock``, a file that is made where it is missing, and stays empty."""
    with alone_or_not(lock, math.inf):
        yield


@contextmanager
def alone_or_not(lock: Path, patience: float = 0.0) -> Iterator[bool]:
    """As :func:`alone`, but waiting at most ``patience`` seconds: gives whether no other process is inside."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "ab") as held:
        until = time.monotonic() + patience
        while not (mine := _locked(held)) and time.monotonic() < until:
            time.sleep(BETWEEN)
        try:
            yield mine
        finally:
            if mine:
                _free(held)


def _locked(held: IO[bytes]) -> bool:
    with suppress(OSError):  # a file system without locks
        try:
            if fcntl is not None:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _free(held: IO[bytes]) -> None:
    """Closing it does not: processes that were forked inside have it open, too."""
    with suppress(OSError):
        if fcntl is not None:
            fcntl.flock(held, fcntl.LOCK_UN)
