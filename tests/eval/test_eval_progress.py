"""How far it is: speed and time left by hand, plain lines at their pause, one bar on a terminal, nothing when quiet."""

import io

import pytest
from rich.console import Console

from taid_vlm_eval.answering import Standing
from taid_vlm_eval.progress import Pace, as_time, bars, lines, shown


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_speed_counts_what_was_answered_since_it_began() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.state(Standing("a", 400, 1000, 0)) == ""  # of an earlier run
    clock.now += 20.0
    assert pace.state(Standing("a", 450, 1000, 1)) == "2.5 items/s, 3 min 40 s left, 1 error"
    assert pace.state(Standing("b", 0, 10, 0)) == ""  # each task has its own
    clock.now += 20.0
    assert pace.state(Standing("a", 1000, 1000, 12)) == "15 items/s, 12 errors"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (7505, "2 h 5 min"),
        (400_000, "111 h 6 min"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert as_time(seconds) == text


def test_plain_lines_come_after_each_pause_only() -> None:
    clock, said = Clock(), list[str]()
    watch = lines(said.append, pause=30.0, clock=clock)
    for second in range(91):
        clock.now = 1000.0 + second
        watch(Standing("a", second, 180, 0))
    assert said == [
        "a: 30 of 180, 1 items/s, 2 min 30 s left",
        "a: 60 of 180, 1 items/s, 2 min 0 s left",
        "a: 90 of 180, 1 items/s, 1 min 30 s left",
    ]


def test_a_bar_on_a_terminal() -> None:
    told = io.StringIO()
    with bars(Console(file=told, force_terminal=True, width=120)) as watch:
        watch(Standing("pope", 0, 8, 0))
        watch(Standing("pope", 5, 8, 2))
    assert "pope" in told.getvalue()
    assert "5/8" in told.getvalue()
    assert "2 errors" in told.getvalue()


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taid_vlm_eval.progress.lines.__defaults__", (0.0, Clock()))


def test_lines_go_to_standard_error_and_quiet_says_nothing(no_pause: None, capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        with shown(quiet) as watch:
            watch(Standing("a", 3, 9, 0))
        out, err = capsys.readouterr()
        assert (out, err) == ("", "" if quiet else "a: 3 of 9\n")
