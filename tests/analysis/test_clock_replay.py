"""TAID's clock replayed: a run's own path to the last bit, and how far other settings are from the straight line."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from taid_vlm.analysis.found import as_text
from taid_vlm.analysis.replay import Settings, recorded, replay, synthetic
from taid_vlm.analysis.schedule import Sweep, departure, schedule_of_run, schedule_of_synthetic
from taid_vlm.cli import app
from taid_vlm.common.errors import UserError
from taid_vlm.losses import TAIDClock, linear_t
from taid_vlm.report.run_files import Run, read_run
from taid_vlm.training import train
from tests.report.written_runs import write_run
from tests.tiny.recipes import distil

LOSS = st.one_of(st.floats(0.01, 20), st.sampled_from([math.nan, math.inf, 0.0, 1e-300]), st.just(None))


def run_of(losses: list[float | None], loss: dict[str, Any], total: int) -> Run:
    """A run as the training loop writes it: None is a step that overflowed in fp16, of which the clock is told nothing."""
    given = {key: value for key, value in loss.items() if key != "signal"}
    clock, rows, overflowed = TAIDClock(total, **given), [], 0
    for step, value in enumerate(losses):
        t = clock.t
        if value is None:
            overflowed += 1
        else:
            clock.update(value, step)
        figures = {"loss": 7.0, "kl_target": math.nan if value is None else value, "t": t, "momentum": clock.momentum}
        rows.append({"step": step + 1, **figures, "skipped": float(clock.skipped), "overflowed": float(overflowed)})
    recipe = {"loss": {"name": "taid", "signal": "kl", **loss}, "training": {"steps": total}}
    return Run("written", Path("written"), recipe, steps=json.loads(json.dumps(rows)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(LOSS, min_size=1, max_size=40),
    st.sampled_from(["adaptive", "exponential", "linear"]),
    st.floats(0.0, 0.9),
    st.floats(1.0, 40.0),
)
def test_a_run_is_replayed_to_the_last_bit(
    losses: list[float | None], schedule: str, t_start: float, total: float
) -> None:
    run = recorded(run_of(losses, {"schedule": schedule, "t_start": t_start, "alpha_total": total}, len(losses)))
    path = replay(run.settings, run.signals)
    assert path.t == run.t
    assert path.momentum == run.momentum


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss", [{"alpha_total": 20.0}, {"schedule": "set_point", "set_point": 0.5, "signal": "kl", "alpha": 0.05}]
)
def test_a_trained_run_is_replayed_to_the_last_bit(
    tmp_path: Path, language_model: Path, easy_vqa: Path, saved_teacher: Path, loss: dict[str, Any]
) -> None:
    train(distil(language_model, easy_vqa, saved_teacher, loss={"name": "taid", **loss}), tmp_path / "run")
    run = recorded(read_run(tmp_path / "run"))
    path = replay(run.settings, run.signals)
    assert (path.t, path.momentum) == (run.t, run.momentum)
    assert len(set(path.t)) > 3
    done = CliRunner().invoke(app, ["analyze", "schedule", "--loss-curve", str(tmp_path / "run"), "--alpha", "0.5"])
    assert f"all {len(run.t)} recorded values of t and of the momentum are met exactly" in done.stdout


def test_a_path_that_another_rule_wrote_is_told() -> None:
    run = run_of([1 / n for n in range(1, 61)], {"alpha_total": 20.0}, 60)
    assert "all 60 recorded values" in as_text(schedule_of_run(recorded(run), Sweep()))
    run.steps[30]["t"] += 1e-12
    assert "1 of 60 recorded values" in as_text(schedule_of_run(recorded(run), Sweep()))


@pytest.mark.parametrize("steps", [300, 1000, 2000, 4000])
def test_up_to_2_over_alpha_updates_the_path_is_the_line(steps: int) -> None:
    path = replay(Settings(steps), synthetic(steps, 0.0, 0))
    line = [linear_t(max(0, n - 1), steps, 0.4, 1.0) for n in range(steps)]
    assert path.t == pytest.approx(line, abs=1e-5)
    if steps < 4000:
        assert path.t == line


def test_beyond_it_the_curve_follows_its_formula() -> None:
    """The exponential curve is furthest from the line where alpha/2 (1 - alpha/2)^n = 1/N, by arithmetic at ln(alpha N / 2) / (alpha / 2)."""
    one = departure(Settings(11700, "exponential"), synthetic(11700, 0.1, 0))
    share = 1 - 0.00025
    assert one.at == pytest.approx(math.log(5e-4 * 11700 / 2) / -math.log(share), abs=4)
    assert one.most == pytest.approx(0.6 * (1 - share**one.at - one.at / 11700), abs=1e-4)
    assert one.above == pytest.approx(0.106, abs=2e-3)
    assert one.from_curve == 0


@pytest.mark.parametrize(("noise", "low", "high"), [(0.0, 0.0, 4e-4), (0.1, 5e-4, 1.5e-3), (0.3, 0.008, 0.02)])
def test_noise_moves_t_by_little(noise: float, low: float, high: float) -> None:
    assert low <= departure(Settings(11700), synthetic(11700, noise, 1)).from_curve <= high


def test_what_is_printed_follows_from_the_paths() -> None:
    found = schedule_of_synthetic(Sweep(alphas=(5e-4, 5e-3), steps=(1000,), t_starts=(0.2, 0.6)))
    assert "2 of 4 paths are the straight line" in as_text(found)
    names = [line.name for line in found.charts[0].lines]
    assert "alpha 0.005, t_start 0.2" in names
    assert {"straight line from 0.2", "straight line from 0.6"} <= set(names)
    assert all(len(line.x) == len(line.y) for chart in found.charts for line in chart.lines)
    assert [one["total"] for one in found.figures["paths"]] == [0.5, 0.5, 5.0, 5.0]


def test_a_run_without_a_clock_drives_others(tmp_path: Path) -> None:
    found = schedule_of_run(recorded(read_run(write_run(tmp_path / "kl", method="kl"))), Sweep(alphas=(0.1,)))
    assert "kl had no clock" in as_text(found)
    assert found.figures["paths"][0]["most"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--alpha", "2"], "alpha is 2.0"),
        (["--alpha", "a,b"], "--alpha is 'a,b'"),
        (["--steps", "10.5"], "whole numbers"),
        (["--t-start", "1"], "t_start < t_end"),
        (["--beta", ",".join(["0.5"] * 20)], "at most 64"),
        (["--loss-curve", "nowhere"], "expected the folder of a run"),
        (["--output", "plot.png"], ".html for a page or .svg"),
    ],
)
def test_mistakes_are_told(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["analyze", "schedule", *arguments])
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


def test_a_run_that_lacks_steps_cannot_be_replayed(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "taid"))
    del run.steps[10]
    with pytest.raises(UserError, match="every step from 1 to 60"):
        recorded(run)
    run.steps.clear()
    with pytest.raises(UserError, match="no training step"):
        recorded(run)
