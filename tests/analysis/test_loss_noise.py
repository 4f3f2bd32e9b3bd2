"""Noise from step to step: found again where it was put in, whatever the trend and the scale."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from taid_vlm.analysis.found import as_text
from taid_vlm.analysis.variance import variance
from taid_vlm.analysis.wobble import draws, ratio, wobble
from taid_vlm.common.errors import UserError
from taid_vlm.report.run_files import read_run, read_runs
from tests.report.written_runs import write_run


def falling(noise: float, count: int = 2000, seed: int = 0) -> list[float]:
    draw = np.random.default_rng(seed)
    return [float((0.5 + 3 / math.sqrt(n)) * (1 + noise * draw.standard_normal())) for n in range(10, 10 + count)]


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_the_noise_is_found_beside_the_trend(noise: float) -> None:
    one = wobble(falling(noise))
    assert one.variation == pytest.approx(noise, rel=0.05)
    assert one.interval[0] < noise < one.interval[1]
    assert wobble(falling(0.0)).variation < 2e-3  # the trend alone counts almost nothing


def test_it_is_the_mean_square_of_neighbours_by_hand() -> None:
    values = [3.0, 2.0, 4.0, 1.0, 1.5, 2.5]
    gaps = [b - a for a, b in pairwise(values)]
    relative = [2 * (b - a) / (a + b) for a, b in pairwise(values)]
    one = wobble(values)
    assert one.deviation == pytest.approx(math.sqrt(sum(g * g for g in gaps) / len(gaps) / 2))
    assert one.variation == pytest.approx(math.sqrt(sum(g * g for g in relative) / len(relative) / 2))


def test_variation_knows_no_scale_and_a_series_equals_itself() -> None:
    values = falling(0.1, 300)
    assert wobble([17 * value for value in values]).variation == pytest.approx(wobble(values).variation)
    point, interval = ratio(values, values)
    assert (point, interval) == (1.0, (1.0, 1.0))
    point, (low, high) = ratio(falling(0.2, 600, 1), falling(0.1, 600, 2))
    assert low < 2 < high
    assert point == pytest.approx(2, rel=0.15)


def test_intervals_cover() -> None:
    inside = [one.interval[0] <= 0.1 <= one.interval[1] for one in (wobble(falling(0.1, 200, s)) for s in range(40))]
    assert sum(inside) >= 34


def test_draws_are_blocks_of_neighbours() -> None:
    chosen = draws(57, seed=0)
    assert chosen.shape == (2000, 57)
    steps = np.diff(chosen, axis=1) % 57
    assert float((steps == 1).mean()) > 0.85


def test_runs_are_compared_with_kl_and_said_to_share_their_data(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / "taid", seed=1), write_run(tmp_path / "kl", "kl", seed=2)])
    for run in runs:
        for row in run.steps:
            row["rows"] = 10 + row["step"] % 7
    found = variance(runs, windows=3, skip=4)
    assert found.figures["base"] == "kl"
    loss = found.figures["figures"]["loss"]
    assert loss["kl"]["over"] is None
    values = [[row["loss"] for row in run.steps[4:]] for run in runs]
    assert loss["taid"]["over"] == pytest.approx(wobble(values[0]).variation / wobble(values[1]).variation)
    assert [part["until"] for part in loss["taid"]["windows"]] == [23, 41, 60]
    text = as_text(found)
    assert "the same number of answer tokens in each of 60 steps" in text
    assert "cannot be told apart" in text  # both have the same noise
    runs[0].steps[5]["rows"] += 1
    assert "in 1 of 60 steps: not the same data" in as_text(variance(runs))


def test_steps_that_are_not_finite_and_figures_that_are_missing_are_left_out(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / "taid"), write_run(tmp_path / "kl", "kl")])
    runs[0].steps[7]["loss"] = math.nan
    for row in runs[1].steps:
        del row["grad_norm"]
    found = variance(runs)
    assert found.figures["figures"]["loss"]["kl"]["steps"] == 59
    assert "grad_norm is not recorded in kl." in found.said


def test_too_few_steps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 8 are needed"):
        variance([read_run(write_run(tmp_path / "taid", steps=20))], skip=15)
