"""The clock of our own: t follows a set point of KL(p_t || student)."""

import json

import pytest
import torch
from pydantic import ValidationError

from taid_vlm.common.errors import UserError
from taid_vlm.losses import TAIDClock, taid
from taid_vlm.recipe.loss_config import LossConfig


def clock(**changes: float) -> TAIDClock:
    return TAIDClock(1000, **{"schedule": "set_point", "set_point": 0.5, "alpha": 0.01, "t_start": 0.4, **changes})


def test_the_rule_by_hand() -> None:
    made = clock()
    made.update(0.2, 0)
    assert made.t == 0.4  # the first loss only begins
    made.update(0.2, 1)
    assert made.t == pytest.approx(0.4 + 0.01 * (1 - 0.2 / 0.5), rel=1e-12)
    before = made.t
    made.update(0.75, 2)
    assert made.t == pytest.approx(before - 0.01 * 0.5, rel=1e-12)  # unlike the paper's clocks it can fall
    before = made.t
    made.update(100.0, 3)
    assert made.t == pytest.approx(before - 0.01, rel=1e-12)  # one bad step moves it by alpha, not by more


def test_it_holds_the_loss_at_the_set_point() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher, student = (3 * torch.randn(40, 50, generator=generator) for _ in range(2))
    made = clock(alpha=0.05)
    for step in range(400):
        made.update(float(taid(student, teacher, made.t).mean()), step)
    assert float(taid(student, teacher, made.t).mean()) == pytest.approx(0.5, abs=0.02)
    assert 0 < made.t < 1
    # A student that has learnt nothing more keeps its t; one that is at the teacher is taught by the teacher itself.
    for step in range(400, 800):
        made.update(float(taid(teacher, teacher, made.t).mean()), step)
    assert made.t == 1.0


def test_t_stays_between_nothing_and_t_end() -> None:
    low, high = clock(alpha=1.0), clock(alpha=1.0, t_end=0.8)
    for step in range(5):
        low.update(9.0, step)
        high.update(0.0, step)
    assert (low.t, high.t) == (0.0, 0.8)


def test_its_state_comes_back_bit_for_bit() -> None:
    first, second = clock(), clock()
    losses = [0.3, 0.9, float("nan"), 0.1, 0.7, 0.2]
    for step, loss in enumerate(losses[:3]):
        first.update(loss, step)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for step, loss in enumerate(losses[3:], 3):
        first.update(loss, step)
        second.update(loss, step)
    assert first.state_dict() == second.state_dict()
    assert first.skipped == 1


def test_a_clock_that_can_hardly_move_says_so() -> None:
    assert "followed slowly" in clock(alpha=1e-4).warnings()[0]
    assert clock(alpha=0.01).warnings() == []


@pytest.mark.parametrize(
    "options", [{"set_point": None}, {"schedule": "linear"}, {"set_point": 0.0}, {"set_point": -1}]
)
def test_what_cannot_be_followed_is_refused(options: dict) -> None:
    with pytest.raises(UserError, match="set_point"):
        clock(**options)


def test_recipes_give_both_keys_and_a_signal_that_is_a_divergence() -> None:
    given = {"schedule": "set_point", "set_point": 0.5}
    assert TAIDClock(10, **LossConfig(**given).clock).set_point == 0.5
    for wrong in ({"schedule": "set_point"}, {"set_point": 0.5}, {**given, "signal": "cross_entropy"}):
        with pytest.raises(ValidationError, match="set_point"):
            LossConfig(**wrong)
