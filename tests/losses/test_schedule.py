"""The TAID clock: the authors' code on fixed losses, bounds, special cases, state."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm.losses import TAIDClock, linear_t

GOLDEN = json.loads((Path(__file__).parent.parent / "data" / "loss_cases.json").read_text())["schedules"]
MOVING = ("adaptive", "linear", "exponential")


def run(clock: TAIDClock, losses: list, first_step: int = 0) -> list[float]:
    path = []
    for step, loss in enumerate(losses, first_step):
        clock.update(loss, step)
        path.append(clock.t)
    return path


def falling(count: int) -> list[float]:
    return [3.0 * 0.97**i + 0.5 + 0.1 * math.sin(7 * i) for i in range(count)]


@pytest.mark.parametrize("case", GOLDEN)
def test_path_of_the_official_code(case: dict) -> None:
    clock = TAIDClock(case["num_train_steps"], **case["config"])
    path = run(clock, case["losses"])
    # The original keeps t in fp32, ours is a Python float.
    assert path == pytest.approx(case["t_after_step"], rel=0, abs=1e-7)
    assert clock.momentum == pytest.approx(case["momentum_end"], rel=1e-5)
    assert clock.updates == len(case["losses"])


def test_adaptive_rule_by_hand() -> None:
    clock = TAIDClock(1000, t_start=0.2, alpha=0.5, beta=0.9)
    clock.update(4.0, 0)
    assert (clock.t, clock.momentum, clock.previous_loss) == (0.2, 0.0, 4.0)  # the first loss only sets the scale
    clock.update(3.0, 1)
    momentum = 0.1 * 0.25
    t = 0.2 + 0.5 / (1 + math.exp(-momentum)) * 0.8
    assert clock.momentum == pytest.approx(momentum, rel=1e-12)
    assert clock.t == pytest.approx(t, rel=1e-12)
    clock.update(6.0, 2)
    momentum = 0.9 * momentum + 0.1 * (3.0 - 6.0) / 3.0
    assert clock.momentum == pytest.approx(momentum, rel=1e-12)
    assert clock.t == pytest.approx(t + 0.5 / (1 + math.exp(-momentum)) * (1 - t), rel=1e-12)


def test_a_falling_loss_moves_faster_than_a_rising_one() -> None:
    down, up = (TAIDClock(10_000, alpha=0.01, beta=0.5) for _ in range(2))
    assert run(down, [4.0, 2.0, 1.0, 0.5])[-1] > run(up, [0.5, 1.0, 2.0, 4.0])[-1] > 0.4


@settings(deadline=None, max_examples=60)
@given(
    schedule=st.sampled_from(MOVING),
    total=st.integers(1, 60),
    start=st.floats(0, 0.9),
    span=st.floats(0.01, 0.1),
    alpha=st.floats(0, 1),
    beta=st.floats(0, 1),
    losses=st.lists(st.floats(0, 1e6), min_size=1, max_size=80),
)
def test_t_is_monotone_bounded_and_never_below_the_line(schedule, total, start, span, alpha, beta, losses) -> None:
    clock = TAIDClock(total, schedule=schedule, t_start=start, t_end=start + span, alpha=alpha, beta=beta)
    path = [clock.t, *run(clock, losses)]
    assert all(a <= b for a, b in pairwise(path))
    assert all(start <= t <= start + span for t in path)
    # path[1] is after the first update, which never moves t.
    assert all(t >= linear_t(step, total, start, start + span) for step, t in enumerate(path[2:], 1))


def test_alpha_zero_is_the_line() -> None:
    line = [linear_t(step, 50, 0.1, 0.9) for step in range(50)]
    for schedule, alpha in (("adaptive", 0.0), ("exponential", 0.0), ("linear", 0.9)):
        clock = TAIDClock(50, schedule=schedule, t_start=0.1, t_end=0.9, alpha=alpha)
        assert run(clock, falling(50)) == line
    assert run(TAIDClock(50, t_start=0.1, t_end=0.9, alpha=0.2), falling(50)) != line


def test_exponential_is_adaptive_without_a_signal() -> None:
    adaptive, exponential = (TAIDClock(300, schedule=s, alpha=0.05) for s in ("adaptive", "exponential"))
    path = run(exponential, falling(300))
    assert run(adaptive, [2.0] * 300) == path
    # Closed form; n counts moves, and the first update makes none.
    expected = [max(linear_t(n, 300, 0.4, 1.0), 1 - 0.6 * (1 - 0.025) ** n) for n in range(300)]
    assert path == pytest.approx(expected, rel=1e-12)
    assert expected[100] > linear_t(100, 300, 0.4, 1.0) + 0.2  # a case in which the curve matters


def test_constant_stays() -> None:
    clock = TAIDClock(10, schedule="constant", t_start=1.0)
    assert run(clock, falling(20)) == [1.0] * 20
    assert set(run(TAIDClock(10, schedule="constant", t_start=0.3, alpha=1.0), falling(20))) == {0.3}


def test_a_t_end_below_one_is_approached_not_overrun() -> None:
    clock = TAIDClock(10_000, t_start=0.2, t_end=0.5, alpha=0.5)
    path = run(clock, [1.0] * 30)
    assert path[1] == pytest.approx(0.2 + 0.25 * 0.3, rel=1e-12)  # (t_end - t), not (1 - t)
    assert 0.49 < path[-1] < 0.5


def test_last_value_and_how_to_reach_t_end() -> None:
    assert run(TAIDClock(10, schedule="linear"), falling(10))[-1] == pytest.approx(0.4 + 0.6 * 0.9)
    assert run(TAIDClock(10, schedule="linear"), falling(10), first_step=1)[-1] == 1.0
    assert run(TAIDClock(10, schedule="linear", t_start=0.1, t_end=0.7), falling(30))[-1] == 0.7


@pytest.mark.parametrize("schedule", [*MOVING, "constant"])
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_a_bad_step_changes_nothing_but_its_counter(schedule: str, bad) -> None:
    losses = falling(40)
    clock, clean = (TAIDClock(40, schedule=schedule, alpha=0.3) for _ in range(2))
    clock.update(bad, 0)  # before anything is known
    run(clock, losses[:20])
    before = clock.state_dict()
    clock.update(bad, 20)
    assert clock.state_dict() == {**before, "skipped": 2}
    run(clock, losses[20:], first_step=20)
    run(clean, losses)
    assert clock.state_dict() == {**clean.state_dict(), "skipped": 2}


def test_a_perfect_loss_of_zero_does_no_harm() -> None:
    clock = TAIDClock(100, alpha=0.01)
    run(clock, [1.0, 0.0, 1e300, 0.0, 5.0])
    assert 0.4 <= clock.t <= 1
    assert math.isfinite(clock.momentum)
    assert (clock.updates, clock.skipped) == (4, 1)  # 1e300 after 0 says nothing


@pytest.mark.parametrize("split", [0, 1, 2, 17, 39])
def test_state_survives_json_bit_for_bit(split: int) -> None:
    losses = falling(40)
    whole = TAIDClock(40, alpha=0.1)
    expected = run(whole, losses)
    first = TAIDClock(40, alpha=0.1)
    path = run(first, losses[:split])
    text = json.dumps(first.state_dict(), allow_nan=False)  # strict JSON has no infinity
    second = TAIDClock(40, alpha=0.1)
    second.load_state_dict(json.loads(text))
    path += run(second, losses[split:], first_step=split)
    assert path == expected
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"t": 1.5},
        {"t": math.nan},
        {"t": None},
        {"momentum": math.inf},
        {"previous_loss": math.nan},
        {"updates": -1},
        {"skipped": 1.5},
        {"extra": 1},
    ],
)
def test_an_impossible_state_is_refused_and_leaves_the_clock_alone(change: dict) -> None:
    clock = TAIDClock(40)
    run(clock, falling(5))
    before = clock.state_dict()
    with pytest.raises(UserError, match="TAID clock's state"):
        clock.load_state_dict({**before, "t": 0.9, **change})
    assert clock.state_dict() == before
    with pytest.raises(UserError, match="keys"):
        clock.load_state_dict({"t": 0.5})


def test_alpha_total_is_spread_over_the_run() -> None:
    assert TAIDClock(1000, alpha_total=6.0).alpha == 0.006
    assert TAIDClock(1000).alpha == 5e-4
    clock = TAIDClock(3, alpha_total=6.0)
    assert clock.alpha == 1.0
    assert any("1 is used" in text for text in clock.warnings())


def test_warns_when_adaptive_cannot_leave_the_line() -> None:
    (warning,) = TAIDClock(300).warnings()
    assert "exactly linear" in warning
    assert "0.15" in warning  # alpha * total_steps
    assert TAIDClock(4000).warnings() == []
    assert len(TAIDClock(3999).warnings()) == 1
    assert TAIDClock(300, alpha_total=5.9).warnings() == []
    assert TAIDClock(300, schedule="linear").warnings() == []
    assert TAIDClock(300, schedule="constant").warnings() == []
    # The warning tells the truth.
    line = [linear_t(step, 300, 0.4, 1.0) for step in range(300)]
    assert run(TAIDClock(300, alpha=1.9 / 300), falling(300)) == line
    assert run(TAIDClock(300, alpha=3.0 / 300), falling(300)) != line


@pytest.mark.parametrize("schedule", ["adaptive", "exponential"])
def test_losses_that_jump_by_factors_keep_the_adaptive_t_on_the_line_and_that_is_said(schedule: str) -> None:
    """A change of (L_before - L) / L_before is below 1 where the loss falls, and has no end where it rises."""
    clock = TAIDClock(1000, schedule=schedule, alpha_total=5.9)
    for step in range(1000):
        clock.update(0.4 if step % 2 else 0.0004, step)
        if schedule == "adaptive":
            assert clock.t == pytest.approx(linear_t(step, 1000, 0.4, 1.0), abs=0.002)
    remarks = clock.remarks()
    assert len(remarks) == (schedule == "adaptive")
    assert all("more samples per step" in one for one in remarks)


def test_a_run_of_even_losses_or_one_that_is_linear_anyway_hears_nothing() -> None:
    even, linear = TAIDClock(1000, alpha_total=5.9), TAIDClock(300)
    for step in range(1000):
        even.update(2.0 - step / 1000, step)
    for step in range(300):
        linear.update(0.4 if step % 2 else 0.0004, step)
    assert even.remarks() == linear.remarks() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": 0}, "total_steps is 0"),
        ({"total_steps": 10.5}, "total_steps is 10.5"),
        ({"schedule": "adaptiv"}, "did you mean 'adaptive'"),
        ({"t_start": -0.1}, "t_start is -0.1"),
        ({"t_start": math.nan}, "t_start is nan"),
        ({"t_end": 1.1}, "t_end is 1.1"),
        ({"t_start": 0.5, "t_end": 0.5}, "expected t_start < t_end"),
        ({"t_start": 0.9, "t_end": 0.5}, "expected t_start < t_end"),
        ({"alpha": -1e-3}, "alpha is -0.001"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"alpha": 0.1, "alpha_total": 5}, "expected one of them"),
        ({"alpha_total": math.inf}, "alpha_total is inf"),
        ({"beta": 1.01}, "beta is 1.01"),
        ({"beta": "0.9"}, "beta is '0.9'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        TAIDClock(**{"total_steps": 10, **arguments})


def test_linear_t() -> None:
    assert [linear_t(s, 4, 0.2, 1.0) for s in (0, 2, 4, 9)] == pytest.approx([0.2, 0.6, 1.0, 1.0])
    assert linear_t(3, 3, 0.3, 1.0) == 1.0  # 0.3 + (1.0 - 0.3) is not 1.0 in floating point
