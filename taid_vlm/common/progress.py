"""How far work is that takes longer than two seconds, on standard error: on a terminal a bar that is gone when it is done, elsewhere a plain line
now and then.

A command with ``--quiet`` has no standard error, so that nothing here asks for it.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from taid_vlm.common.telling import for_terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

Progress = Callable[[int, int], None]  # how many are done, and of how many
PAUSE = 30.0  # seconds between plain lines

_shown: "ContextVar[Bars | None]" = ContextVar("shown", default=None)


@contextmanager
def bar(what: str) -> Iterator[Progress]:
    """A bar that is told how far the work is; until then it only moves. Inside of another one, it is a line below it.

    Args:
        what: that is counted or done, as a person would say it.
    """
    from rich.console import Console

    what, outer = for_terminal(what), _shown.get()
    if outer is not None:
        with _line(outer, what) as progress:
            yield progress
    elif os.environ.get("RANK", "0") != "0":  # of several processes one tells
        yield lambda done, total: None
    elif not (console := Console(stderr=True)).is_terminal:
        yield plain_lines(what)
    else:
        with _bars(console) as made:
            token = _shown.set(made)
            try:
                with _line(made, what) as progress:
                    yield progress
            finally:
                _shown.reset(token)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A sign of life with the time so far, for work that cannot say how far it is."""
    with bar(what):
        yield


def plain_lines(what: str, pause: float = PAUSE, clock: Callable[[], float] = time.monotonic) -> Progress:
    """A line whenever ``pause`` seconds went by since the last one, so that what is short says nothing."""
    last = [clock()]

    def progress(done: int, total: int) -> None:
        if clock() - last[0] >= pause:
            last[0] = clock()
            print(f"{what}: {_count(done, total)}", file=sys.stderr, flush=True)

    return progress


@contextmanager
def _line(bars: "Bars", what: str) -> Iterator[Progress]:
    line = bars.add_task(what, total=None, count="")
    try:
        yield lambda done, total: bars.update(line, completed=done, total=total, count=_count(done, total))
    finally:
        bars.remove_task(line)


def _count(done: int, total: int) -> str:
    return f"{done:,} of {total:,}"


def _bars(console: "Console") -> "Bars":
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
    )
    # What is printed meanwhile appears above the bars; into a pipe or a file it goes as ever, and not to the terminal.
    return Bars(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty())
