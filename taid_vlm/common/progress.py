"""Bars for what takes longer than two seconds: on standard error, on terminals only, and gone when it is done.

A command with ``--quiet`` has no terminal there, so that nothing here asks for it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

Progress = Callable[[int, int], None]  # how many are done, and of how many

_shown: "ContextVar[Bars | None]" = ContextVar("shown", default=None)


@contextmanager
def bar(what: str) -> Iterator[Progress]:
    """A bar that is told how far the work is; until then it only moves. Inside of another one, it is a line below it.

    Args:
        what: that is counted or done, as a person would say it.
    """
    outer = _shown.get()
    if outer is not None:
        with _line(outer, what) as progress:
            yield progress
        return
    with _bars() as made:
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


@contextmanager
def _line(bars: "Bars", what: str) -> Iterator[Progress]:
    line = bars.add_task(what, total=None, count="")
    try:
        yield lambda done, total: bars.update(line, completed=done, total=total, count=f"{done:,} of {total:,}")
    finally:
        bars.remove_task(line)


def _bars() -> "Bars":
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
    )
    return Bars(*columns, console=console, transient=True, disable=not console.is_terminal)
