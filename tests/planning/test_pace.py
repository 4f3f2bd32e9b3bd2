"""Seconds, hours and what the teacher's cache takes, worked out again by hand."""

import pytest

from taid_vlm.planning.cards import card_named
from taid_vlm.planning.flops import FlopsPlan
from taid_vlm.planning.memory import Phase
from taid_vlm.planning.options import Option
from taid_vlm.planning.pace import Rates, joined, pace_of
from taid_vlm.planning.wire import REACHED, Links, Wire


def option(sent: int = 0, from_host: int = 0, filling: tuple[int, int] = (0, 0), before: int = 0) -> Option:
    # 989e12 x 0.5 x 8 operations: a second on eight H100s that reach half of their peak
    flops = FlopsPlan(student=round(989e12 * 4), encoder=0, heads=0, teacher=0, before=before, scale=1.0, steps=3600)
    return Option("ddp", None, False, (Phase("step", {}),), Wire({"x": sent}, from_host, filling), flops, 0)


H100 = Links(card_named("H100 80 GB"))
HALF = Rates(utilisation=0.5, hidden=0.5)


def test_arithmetic_alone() -> None:
    pace = pace_of(option(), H100, 8, 64, HALF)
    assert (pace.step, pace.hours, pace.gpu_hours, pace.samples_per_second) == pytest.approx((1, 1, 8, 64))


def test_communication_is_partly_behind_the_arithmetic() -> None:
    sent = round(450e9 * REACHED)  # a second
    assert pace_of(option(sent // 2), H100, 8, 64, HALF).step == pytest.approx(1.25)
    assert pace_of(option(sent * 4), H100, 8, 64, HALF).step == pytest.approx(4.5)
    assert pace_of(option(sent), H100, 8, 64, Rates(0.5, 1.0)).step == pytest.approx(1)
    assert pace_of(option(sent), H100, 8, 64, Rates(0.5, 0.0)).step == pytest.approx(2)


def test_what_comes_from_the_processors_memory_is_waited_for() -> None:
    assert pace_of(option(0, round(64e9 * REACHED)), H100, 8, 64, HALF).step == pytest.approx(2)


def test_the_pass_before_training_counts() -> None:
    filled = option(filling=(0, round(64e9 * REACHED * 3600)), before=round(989e12 * 4 * 3600))
    pace = pace_of(filled, H100, 8, 64, HALF)
    assert (pace.before, pace.hours) == pytest.approx((2, 3))


def test_joined_lies_between_the_longer_one_and_the_sum() -> None:
    for hidden in (0.0, 0.3, 1.0):
        assert max(2.0, 3.0) <= joined(2.0, 3.0, hidden) == joined(3.0, 2.0, hidden) <= 5.0
