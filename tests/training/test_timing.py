"""The stopwatch: parts add up to the whole, a nested lap is taken from the one around it, and nothing is waited for."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm.training.timing import LAPS, NOBODY_ASKS, OTHER, Stopwatch


class Hands:
    """A clock that stands still until it is moved; moments after ``reached`` are not known yet, as on a busy GPU."""

    def __init__(self) -> None:
        self.at = 0
        self.reached: float = float("inf")

    def now(self) -> int:
        return self.at

    def passed(self, moment: int) -> bool:
        return moment <= self.reached

    def seconds(self, earlier: int, later: int) -> float:
        assert max(earlier, later) <= self.reached
        return float(later - earlier)


# A step: time that passes, or a lap with a step of its own inside.
STEPS = st.recursive(
    st.lists(st.integers(1, 9), max_size=3),
    lambda inside: st.lists(st.one_of(st.integers(1, 9), st.tuples(st.sampled_from(LAPS), inside)), max_size=4),
    max_leaves=12,
)


def act(watch: Stopwatch, hands: Hands, step: list[Any]) -> None:
    for part in step:
        if isinstance(part, int):
            hands.at += part
        else:
            with watch(part[0]):
                act(watch, hands, part[1])


def spent(step: list[Any], name: str) -> Iterator[tuple[str, int]]:
    """Independently: the seconds of a step with the innermost lap that they are in."""
    for part in step:
        if isinstance(part, int):
            yield name, part
        else:
            yield from spent(part[1], part[0])


def expected(steps: list[list[Any]]) -> dict[str, float]:
    seconds = dict.fromkeys((*LAPS, OTHER), 0.0)
    for step in steps:
        for name, passed in spent(step, OTHER):
            seconds[name] += passed
    return seconds


@given(st.lists(STEPS, min_size=1, max_size=4))
def test_each_second_counts_for_the_innermost_lap(steps: list[list[Any]]) -> None:
    hands = Hands()
    watch = Stopwatch(clock=hands)
    hands.at += 5
    watch.start()
    for step in steps:
        act(watch, hands, step)
        assert watch.split() == expected([step])


@given(st.lists(STEPS, min_size=2, max_size=5), st.data())
def test_what_a_gpu_has_not_finished_is_told_later(steps: list[list[Any]], data: st.DataObject) -> None:
    hands = Hands()
    watch = Stopwatch(clock=hands)
    told = dict.fromkeys((*LAPS, OTHER), 0.0)
    for step in steps:
        act(watch, hands, step)
        hands.reached = data.draw(st.integers(0 if hands.reached == float("inf") else int(hands.reached), hands.at))
        for name, seconds in watch.split().items():
            told[name] += seconds
        assert sum(told.values()) <= hands.reached
    hands.reached = float("inf")
    for name, seconds in watch.split().items():
        told[name] += seconds
    assert told == expected(steps)


def test_what_is_done_between_steps_is_nobodys() -> None:
    hands = Hands()
    watch = Stopwatch(clock=hands)
    act(watch, hands, [("teacher", [7])])
    watch.split()
    act(watch, hands, [("teacher", [100]), 50])  # a validation
    watch.start()
    act(watch, hands, [1, ("teacher", [2])])
    assert watch.split() == {**dict.fromkeys(LAPS, 0.0), "teacher": 2.0, OTHER: 1.0}


def test_a_lap_ends_with_an_error() -> None:
    hands = Hands()
    watch = Stopwatch(clock=hands)

    def failing() -> None:
        with watch("loss"), watch("teacher"):
            hands.at += 3
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    hands.at += 4
    seconds = watch.split()
    assert (seconds["teacher"], seconds["loss"], seconds[OTHER]) == (3, 0, 4)


def test_an_unknown_lap_is_told_with_the_near_name() -> None:
    with pytest.raises(UserError, match="teacher"):
        Stopwatch()("teachr")


def test_a_stopwatch_that_nobody_reads_stays_small() -> None:
    hands = Hands()
    watch = Stopwatch(clock=hands)
    for _ in range(NOBODY_ASKS):
        with watch("data"):
            hands.at += 1
    assert len(watch._since) + len(watch._waiting) <= NOBODY_ASKS
    watch.start()
    act(watch, hands, [("data", [2])])
    assert watch.split()["data"] == 2


def test_the_real_clock_and_what_a_lap_costs() -> None:
    watch = Stopwatch("cpu")
    watch.start()
    begin = time.perf_counter()
    with watch("backward"):
        time.sleep(0.02)
    for _ in range(1000):
        with watch("loss"):
            pass
    whole = time.perf_counter() - begin
    seconds = watch.split()
    assert seconds["backward"] >= 0.02
    assert sum(seconds.values()) == pytest.approx(whole, abs=5e-3)
    assert (whole - seconds["backward"]) / 1000 < 1e-4  # some microseconds on an idle machine


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_time_is_that_of_its_work() -> None:
    watch = Stopwatch("cuda")
    a = torch.randn(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    watch.start()
    with watch("teacher"):
        for _ in range(50):
            a = a @ a * 1e-3
    early = watch.split()
    torch.cuda.synchronize()
    late = watch.split()
    assert early["teacher"] + late["teacher"] > 0.01
