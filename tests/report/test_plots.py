"""Curves of a run: what is drawn is what the run wrote."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.losses import linear_t
from taid_vlm.recipe import Recipe
from taid_vlm.report.plots import plot_runs, read_metrics
from tests.tiny.recipes import tiny_recipe

STEPS = 12


def write_run(folder: Path, name: str) -> Path:
    run = folder / name
    run.mkdir()
    lines: list[dict[str, Any]] = [
        {"step": s + 1, "loss": 3.0 / (s + 1), "cross_entropy": 2.0 / (s + 1), "t": 0.4 + 0.05 * s}
        for s in range(STEPS)
    ]
    lines.insert(6, {"step": 6, "validation_cross_entropy": 9.0})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


@pytest.fixture
def recipe(language_model: Path, easy_vqa: Path) -> Recipe:
    training = {"steps": STEPS, "batch_size": 4, "lr": 1e-3}
    teacher = {"checkpoint": str(language_model)}
    return tiny_recipe(language_model, easy_vqa, training=training, teacher=teacher, loss={"name": "taid"})


def test_training_rows_only(tmp_path: Path) -> None:
    assert [row["step"] for row in read_metrics(write_run(tmp_path, "run"))] == list(range(1, STEPS + 1))
    with pytest.raises(UserError, match=r"no metrics\.jsonl"):
        read_metrics(tmp_path)


def test_every_run_has_a_curve_and_t_its_line(tmp_path: Path, recipe: Recipe, drawn: list[Figure]) -> None:
    runs = {name: write_run(tmp_path, name) for name in ("sft", "taid")}
    plot_runs(runs, ("taid", recipe), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        image.load()
    left, right = drawn[0].axes
    assert [line.get_label() for line in left.lines] == ["sft", "taid"]
    assert [float(x) for x in right.lines[0].get_ydata()] == pytest.approx([0.4 + 0.05 * s for s in range(STEPS)])
    straight = [linear_t(s, STEPS, 0.4, 1.0) for s in range(STEPS)]
    assert [float(x) for x in right.lines[1].get_ydata()] == pytest.approx(straight)
    assert all(axis.get_xlabel() and axis.get_ylabel() and axis.get_legend() for axis in (left, right))
