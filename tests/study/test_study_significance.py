"""Intervals and tests against independent computations."""

import math

import numpy as np
import pytest

from taid_vlm.study.significance import T_975, holm, mean_and_half_width, paired_interval, sign_flip_p


@pytest.mark.parametrize("degrees", [1, 2, 4, 9, 19])
def test_the_table_holds_quantiles_of_student_s_t(degrees: int) -> None:
    def density(x: np.ndarray) -> np.ndarray:
        scale = math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2) / math.sqrt(degrees * math.pi)
        return scale * (1 + x * x / degrees) ** (-(degrees + 1) / 2)

    x = np.linspace(0, T_975[degrees - 1], 400_001)
    assert 0.5 + np.trapezoid(density(x), x) == pytest.approx(0.975, abs=2e-5)


def test_mean_with_interval() -> None:
    assert mean_and_half_width([2.0]) == (2.0, None)
    mean, half = mean_and_half_width([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.303 / math.sqrt(3), rel=1e-9)


def test_five_seeds_that_agree_have_a_sixteenth() -> None:
    assert sign_flip_p([1.0, 2.0, 0.1, 0.3, 4.0]) == 1 / 16
    assert sign_flip_p([-1.0, -2.0, -0.1, -0.3, -4.0]) == 1 / 16
    assert sign_flip_p([0.1, 0.1, 0.1]) == 1 / 4  # sums of equal numbers must not differ by rounding
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert sign_flip_p([1.0, -1.0, 1.0, -1.0]) == 1.0


def test_sign_flips_reject_as_often_as_they_say() -> None:
    draws = np.random.default_rng(0).normal(size=(400, 5))
    ps = np.array([sign_flip_p(row) for row in draws])
    assert np.mean(ps <= 1 / 16) == pytest.approx(1 / 16, abs=0.03)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_paired_interval_covers_what_is_common_to_seeds_and_items() -> None:
    draws = np.random.default_rng(1)
    hard_I = draws.normal(size=200)
    base_SI = hard_I + 0.1 * draws.normal(size=(5, 200))
    low, high = paired_interval(base_SI + 0.5, base_SI, np.ones(200))
    assert low == pytest.approx(0.5) == high  # what both find hard does not widen it
    low, high = paired_interval(base_SI + 0.5 + draws.normal(size=(5, 200)), base_SI, np.ones(200))
    assert low < 0.5 < high
    assert high - low < 0.5


def test_weights_make_means_per_token() -> None:
    first, weights = np.array([[2.0, 30.0]] * 2), np.array([4.0, 40.0])
    low, high = paired_interval(first, np.zeros((2, 2)), weights)
    assert (low, high) == pytest.approx((0.5, 0.75))  # items alone: 2 of 4 and 30 of 40 tokens
