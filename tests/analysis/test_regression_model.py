"""The regression model, recomputed without its basis, and the bounds that hold whatever the kernel."""

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from taid_vlm.analysis.bounds import (
    collapse_of_self_distillation,
    enough_for_taid,
    targets_of_self_distillation,
    targets_of_taid,
)
from taid_vlm.analysis.found import as_text
from taid_vlm.analysis.regression import Asked, regression
from taid_vlm.analysis.rounds import KERNELS, Data, distilled, first_collapse, make_data, multiplier, needed_norm
from taid_vlm.cli import app
from taid_vlm.common.errors import UserError
from taid_vlm.losses import linear_t

Array = NDArray[np.float64]


def solved(gram_KK: Array, target_K: Array, radius: float) -> Array:
    """The fit by linear systems alone: c is sought by bisection of the distance, and no eigenvector is used."""
    if float(np.linalg.norm(target_K)) <= radius:
        return np.zeros_like(target_K)
    low, high, eye_KK = 1e-12, 1e12, np.eye(len(target_K))
    for _ in range(200):
        c = math.sqrt(low * high)
        fit_K: Array = gram_KK @ np.linalg.solve(c * eye_KK + gram_KK, target_K)
        low, high = (c, high) if float(np.linalg.norm(fit_K - target_K)) < radius else (low, c)
    return fit_K


@pytest.mark.parametrize("shares", [[0.0] * 4, [0.4, 0.6, 0.8, 1.0], [0.3] * 4])
@pytest.mark.parametrize("kernel", ["bridge", "laplace"])
def test_each_round_is_the_constrained_fit_to_its_target(kernel: str, shares: list[float]) -> None:
    data, radius = make_data(12, kernel, 0.2, seed=3), math.sqrt(12 * 0.02)
    gram_KK = KERNELS.get(kernel)(data.x)
    fit_K = solved(gram_KK, data.labels, radius)
    for n, one in enumerate(distilled(data, radius, shares)):
        if n:
            fit_K = solved(gram_KK, (1 - shares[n - 1]) * fit_K + shares[n - 1] * data.labels, radius)
        np.testing.assert_allclose(one.fit, fit_K, atol=1e-7)


def test_self_distillation_multiplies_each_coefficient_by_1_over_1_plus_c_over_d() -> None:
    """The closed form of Mobahi et al.; the factors of all rounds are multiplied, and the trace is their sum."""
    data, radius = make_data(20, "bridge", 0.3, seed=1), 0.4
    factors_K, target_K = np.ones(20), data.coefficients
    for one in distilled(data, radius, [0.0] * 5):
        c = multiplier(data.values, target_K, radius)
        assert c is not None
        factors_K = factors_K / (1 + c / data.values)
        target_K = factors_K * data.coefficients
        np.testing.assert_allclose(one.fit, data.basis @ target_K, atol=1e-9)
        assert one.freedom == pytest.approx(factors_K.sum())
        assert one.directions == pytest.approx(factors_K.sum() ** 2 / (factors_K**2).sum())
    # Directions of small eigenvalues go first: that is the regularisation.
    assert np.all(np.diff(factors_K[np.argsort(data.values)]) >= 0)


def test_taid_keeps_a_share_of_the_teacher_from_each_round() -> None:
    """Unrolled: what round j brought in, t_j of the labels, has since been multiplied by each a_i and by 1 - t_i of later rounds."""
    data, radius, shares = make_data(15, "laplace", 0.2, seed=5), 0.5, [0.5, 0.7, 1.0, 0.4]
    factors, kept_K = [], np.zeros(15)
    for t in (1.0, *shares):
        aim_K = (1 - t) * kept_K + t
        c = multiplier(data.values, aim_K * data.coefficients, radius)
        assert c is not None
        factors.append(1 / (1 + c / data.values))
        kept_K = factors[-1] * aim_K
    ts = [1.0, *shares]
    unrolled_K = sum(
        ts[j] * factors[j] * np.prod([(1 - ts[i]) * factors[i] for i in range(j + 1, 5)], axis=0) for j in range(5)
    )
    fit_K = distilled(data, radius, shares)[-1].fit
    np.testing.assert_allclose(fit_K, data.basis @ (unrolled_K * data.coefficients), atol=1e-9)
    # At t = 1 everything before is forgotten.
    np.testing.assert_allclose(distilled(data, radius, [0.2, 1.0])[-1].fit, distilled(data, radius, [])[0].fit)


def test_no_function_within_the_tolerance_has_a_smaller_norm() -> None:
    data, radius = make_data(10, "laplace", 0.3, seed=2), 0.6
    gram_KK = KERNELS.get("laplace")(data.x)
    fit_K = distilled(data, radius, [])[0].fit
    assert float(np.linalg.norm(fit_K - data.labels)) == pytest.approx(radius)
    least, draws = fit_K @ np.linalg.solve(gram_KK, fit_K), np.random.default_rng(0)
    for _ in range(200):
        step_K = draws.standard_normal(10)
        other_K = data.labels + radius * draws.random() * step_K / np.linalg.norm(step_K)
        assert other_K @ np.linalg.solve(gram_KK, other_K) >= least
        near_K = fit_K + 0.01 * step_K
        if float(np.linalg.norm(near_K - data.labels)) <= radius:
            assert near_K @ np.linalg.solve(gram_KK, near_K) >= least


def test_the_bridge_has_the_spectrum_of_second_differences() -> None:
    data, k = make_data(30, "bridge", 0.1, seed=0), np.arange(1, 31)
    expected_K = 1 / (4 * 31 * np.sin(k * np.pi / 62) ** 2)
    np.testing.assert_allclose(data.values[::-1], expected_K, rtol=1e-9)
    sines_K = np.sin(np.pi * data.x) / np.linalg.norm(np.sin(np.pi * data.x))
    np.testing.assert_allclose(abs(data.basis[:, -1]), sines_K, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kernel", ["bridge", "laplace", "gaussian"])
def test_bounds_hold(kernel: str, seed: int) -> None:
    draws = np.random.default_rng(seed)
    data = make_data(int(draws.integers(3, 40)), kernel, float(draws.random()), seed)
    norm = 1.05 + 5 * float(draws.random())
    radius = float(np.linalg.norm(data.labels)) / norm
    rounds = math.ceil(norm**2) + 1
    alone = distilled(data, radius, [0.0] * rounds)
    earliest, latest = collapse_of_self_distillation(norm)
    collapse = first_collapse(alone)
    assert collapse is not None
    assert earliest <= collapse <= latest
    for one, (low, high) in zip(alone[: collapse + 1], targets_of_self_distillation(norm, rounds), strict=False):
        assert low - 1e-9 <= one.target <= high + 1e-9
    for t_start in (0.0, float(draws.random()) * 0.9):
        shares = [linear_t(n, rounds, t_start, 1.0) for n in range(1, rounds + 1)]
        least, taid = targets_of_taid(norm, shares), distilled(data, radius, shares)
        collapse = first_collapse(taid)
        for one, low in zip(taid if collapse is None else taid[:collapse], least, strict=False):
            assert one.target >= low - 1e-9
            assert one.fitted <= one.target
        if min(least) > 1:
            assert collapse is None


@pytest.mark.parametrize("rounds", [4, 7, 30])
def test_labels_above_4_sqrt_rounds_plus_1_are_enough_from_0_on(rounds: int) -> None:
    enough = enough_for_taid(0.0, rounds)
    assert enough == 4 * math.sqrt(rounds) + 1
    assert min(targets_of_taid(enough + 1e-6, [n / rounds for n in range(1, rounds + 1)])) > 1
    assert enough_for_taid(0.25, rounds) == 4
    assert min(targets_of_taid(4 + 1e-6, [linear_t(n, rounds, 0.25, 1.0) for n in range(1, rounds + 1)])) > 1
    assert enough_for_taid(0.0, 3) is None


@pytest.mark.parametrize("norm", [1.5, 3.0, 4.2])
def test_where_all_eigenvalues_are_equal_each_round_takes_just_a_radius(norm: float) -> None:
    """Every direction shrinks alike, so the lower bound is met: the earliest collapse is the collapse."""
    labels_K = np.array([3.0, -1.0, 2.0])
    data = Data(np.arange(3.0), labels_K, labels_K, np.ones(3), np.eye(3))
    alone = distilled(data, float(np.linalg.norm(labels_K)) / norm, [0.0] * 20)
    assert first_collapse(alone) == collapse_of_self_distillation(norm)[0]
    assert [one.target for one in alone[:2]] == pytest.approx([norm, norm - 1])


def test_the_needed_norm_is_the_border_of_collapse() -> None:
    data, shares = make_data(20, "bridge", 0.3, seed=0), [n / 8 for n in range(1, 9)]
    norm = float(np.linalg.norm(data.labels))
    needed = needed_norm(data, shares)
    assert first_collapse(distilled(data, norm / needed, shares)) is None
    assert first_collapse(distilled(data, norm / (0.99 * needed), shares)) is not None
    assert needed < needed_norm(data, [0.0] * 8)  # TAID passes where self-distillation collapses


def test_the_command_says_what_was_simulated() -> None:
    found = regression(Asked(points=20, rounds=10))
    figures = found.figures
    low, high = figures["self_distillation"]["collapse_bounds"]
    assert low <= figures["self_distillation"]["collapse"] <= high
    assert figures["taid"]["collapse"] is None
    text = as_text(found)
    assert f"collapses in round {figures['self_distillation']['collapse']}" in text
    assert "collapses in no round" in text
    done = CliRunner().invoke(app, ["analyze", "regression", "--points", "20", "--rounds", "10", "--json"])
    assert json.loads(done.stdout)["taid"]["target_at_least"] == figures["taid"]["target_at_least"]


def test_a_collapse_of_taid_is_told_and_passes() -> None:
    found = regression(Asked(points=20, rounds=30, t_start=0.0, tolerance=0.15))
    collapse = found.figures["taid"]["collapse"]
    assert collapse is not None
    assert f"collapses in round {collapse}. The bound leaves it open" in as_text(found)
    assert not found.figures["taid"]["rounds"][-1]["collapsed"]  # the last target is the labels


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(tolerance=5.0), "lower the tolerance"),
        (Asked(tolerance=0.0), "tolerance is 0.0"),
        (Asked(t_start=1.0), "t_start is 1.0"),
        (Asked(kernel="lapalce"), "laplace"),
        (Asked(noise=-1.0), "noise is -1.0"),
        (Asked(points=1), "points is 1"),
    ],
)
def test_what_cannot_be_simulated_is_refused(asked: Asked, message: str) -> None:
    with pytest.raises(UserError, match=message):
        regression(asked)
