"""Where the time of an optimizer step goes.

A stopwatch with named laps: ``with watch("teacher"): ...``. Laps may nest, and a second counts for the innermost one alone,
so the parts add up to the whole. On a GPU the moments are events in its stream: nothing waits for them, and a part is the
time that the GPU worked or idled for it, not the time that Python took to ask.
"""

import time
from types import TracebackType
from typing import Any, Protocol

import torch

from taid_vlm.common.errors import UserError, did_you_mean

# data: until a batch is there and on the device. student_forward: to the hidden states at answer rows. loss: both heads, the
# objective, and (fused) its gradients. communication: what the loop itself exchanges; DDP exchanges gradients inside backward.
LAPS = ("data", "teacher", "student_forward", "loss", "backward", "optimizer", "communication")
OTHER = "other"
NOBODY_ASKS = 10_000  # moments after which a stopwatch that is never read forgets them


class Clock(Protocol):
    """What tells moments."""

    def now(self) -> Any:
        """This moment."""
        ...

    def passed(self, moment: Any) -> bool:
        """Whether its time is known yet."""
        ...

    def seconds(self, earlier: Any, later: Any) -> float:
        """Between two moments that have passed."""
        ...


class ProcessorClock:
    """The time of the process."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    def passed(self, moment: float) -> bool:
        """Always."""
        return True

    def seconds(self, earlier: float, later: float) -> float:
        """The difference."""
        return later - earlier


class GPUClock:
    """Events in the current stream of a GPU."""

    def now(self) -> torch.cuda.Event:
        """The moment at which the GPU has done all that it was given so far."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def passed(self, moment: torch.cuda.Event) -> bool:
        """Whether the GPU came there; asking does not wait."""
        return bool(moment.query())

    def seconds(self, earlier: torch.cuda.Event, later: torch.cuda.Event) -> float:
        """By the GPU's own clock."""
        return float(earlier.elapsed_time(later)) / 1000


class Stopwatch:
    """Seconds by lap for each optimizer step: ``start``, then laps and a ``split`` for every step.

    Args:
        device: where the work is done.
        clock: another way to tell the time.
    """

    def __init__(self, device: torch.device | str = "cpu", clock: Clock | None = None) -> None:
        gpu = torch.device(device).type == "cuda"
        self._clock: Clock = clock or (GPUClock() if gpu else ProcessorClock())
        self._laps = {name: _Lap(self, name) for name in LAPS}
        self._open = [OTHER]
        self._read = self._clock.now()  # up to here everything has been told
        # Moments with the name of what ended there, None for what is nobody's: of earlier steps, and since the last split.
        self._waiting: list[tuple[str | None, Any]] = []
        self._since: list[tuple[str | None, Any]] = []

    def __call__(self, name: str) -> "_Lap":
        """The lap ``name``, to be used as a context.

        Raises:
            UserError: there is none of that name.
        """
        if name not in self._laps:
            raise UserError(f"unknown lap {name!r}: {did_you_mean(name, LAPS)}")
        return self._laps[name]

    def start(self) -> None:
        """Begin a step now. What was done since the last split (a validation, a checkpoint) belongs to no step."""
        self.mark()
        self._waiting += [(None, moment) for _, moment in self._since]
        self._since = []

    def split(self) -> dict[str, float]:
        """Seconds by name since the last split, and begin the next step; every name is there, what is in no lap is ``other``.

        What a GPU has not finished is told with the next step.
        """
        self.mark()
        self._waiting += self._since
        self._since = []
        seconds = dict.fromkeys((*LAPS, OTHER), 0.0)
        told = 0
        for name, moment in self._waiting:
            if not self._clock.passed(moment):
                break
            if name is not None:
                seconds[name] += self._clock.seconds(self._read, moment)
            self._read, told = moment, told + 1
        del self._waiting[:told]
        return seconds

    def mark(self) -> None:
        """The time up to now is that of the lap that is open."""
        self._since.append((self._open[-1], self._clock.now()))
        if len(self._since) > NOBODY_ASKS:
            self._since, self._waiting = [], []
            self._read = self._clock.now()


class _Lap:
    """A context that gives its time to a name."""

    __slots__ = ("name", "watch")

    def __init__(self, watch: Stopwatch, name: str) -> None:
        self.watch, self.name = watch, name

    def __enter__(self) -> None:
        self.watch.mark()
        self.watch._open.append(self.name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.watch.mark()
        self.watch._open.pop()
