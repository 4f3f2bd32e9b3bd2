"""Signals that ask a run to stop: a preempted node's SIGTERM, a batch system's SIGUSR1, the first Ctrl-C."""

import signal
from types import FrameType, TracebackType
from typing import Any

ASKING = ("SIGTERM", "SIGUSR1", "SIGINT")


class StopRequest:
    """Within it these signals only set ``asked``; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for name in ASKING:
            number = getattr(signal, name, None)  # not every system has all of them
            if number is not None:
                try:
                    self._before[number] = signal.signal(number, self._note)
                except ValueError:  # not the main thread: the program around us deals with signals
                    break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.asked is not None:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
