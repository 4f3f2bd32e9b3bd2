"""How far an evaluation is, on standard error: a bar on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from taid_vlm.common.telling import tell
from taid_vlm_eval.answering import Standing, Watch

if TYPE_CHECKING:
    from rich.console import Console

PAUSE = 30.0  # seconds between plain lines
Clock = Callable[[], float]


class Pace:
    """Items per second of the tasks that are under way, by all processes together, since each task was first seen.

    What an earlier run answered does not count for the speed.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._began: dict[str, tuple[float, int]] = {}

    def state(self, standing: Standing) -> str:
        """Speed, time left, and errors so far; what is not known yet, or is none, is left out."""
        began, before = self._began.setdefault(standing.task, (self._clock(), standing.done))
        seconds, answered = self._clock() - began, standing.done - before
        parts = []
        if answered > 0 and seconds > 0:
            speed = answered / seconds
            parts = [f"{speed:.3g} items/s" if speed < 100 else f"{speed:.0f} items/s"]
            if standing.done < standing.total:
                parts.append(f"{as_time((standing.total - standing.done) / speed)} left")
        if standing.errors:
            parts.append(f"{standing.errors} errors" if standing.errors > 1 else "1 error")
        return ", ".join(parts)


def as_time(seconds: float) -> str:
    """The two largest units: "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def shown(quiet: bool = False) -> Iterator[Watch]:
    """What to tell each :class:`Standing` to."""
    from rich.console import Console

    if quiet:
        yield lambda standing: None
    elif (console := Console(stderr=True)).is_terminal:
        with bars(console) as watch:
            yield watch
    else:
        yield lines(tell)


@contextmanager
def bars(console: "Console") -> Iterator[Watch]:
    """One bar for each task, gone at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
    pace = Pace()
    with Progress(*columns, console=console, transient=True) as bar:
        numbers = {}

        def watch(standing: Standing) -> None:
            if standing.task not in numbers:
                numbers[standing.task] = bar.add_task(standing.task, total=standing.total, state="")
            bar.update(numbers[standing.task], completed=standing.done, state=pace.state(standing))

        yield watch


def lines(say: Callable[[str], None], pause: float = PAUSE, clock: Clock = time.monotonic) -> Watch:
    """A line whenever ``pause`` seconds went by since the last one, so a short run says nothing."""
    pace, last = Pace(clock), [clock()]

    def watch(standing: Standing) -> None:
        state = pace.state(standing)
        if clock() - last[0] >= pause:
            last[0] = clock()
            say(f"{standing.task}: {standing.done} of {standing.total}" + (f", {state}" if state else ""))

    return watch
