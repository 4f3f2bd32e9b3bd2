"""A run or a command that was asked to stop, and how the process says so."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: try again later
INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it
TERMINATED = 143  # the same of SIGTERM


class StoppedError(Exception):
    """The run was asked to stop and has written a checkpoint; the same command goes on from it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: what cleans up after Ctrl-C cleans up after it, too."""


@contextmanager
def stopping_once() -> Iterator[None]:
    """Within it the first Ctrl-C raises KeyboardInterrupt, and the first SIGTERM Terminated; the next of either ends the process at once.

    For a program's entry point, in its main thread. A process that is forked inside ends at SIGTERM without an exception.
    """
    own, numbers, stopped = os.getpid(), (signal.SIGINT, signal.SIGTERM), False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        for one in numbers:
            signal.signal(one, signal.SIG_DFL)
        if number == signal.SIGTERM and os.getpid() != own:
            os.kill(os.getpid(), number)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    # What the caller ignores stays ignored: nohup, and shells for jobs in the background.
    before = {number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        if not stopped:  # otherwise the process is ending, and the next signal must not wait for the rest of it
            for number, handler in before.items():
                signal.signal(number, handler)


def status_of(stopped: BaseException) -> int:
    """The exit status after Ctrl-C or SIGTERM."""
    return TERMINATED if isinstance(stopped, Terminated) else INTERRUPTED
