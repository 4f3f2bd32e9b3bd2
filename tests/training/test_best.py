"""The best student is kept, and a step that could not be taken is written down with its samples."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from taid_vlm.common.errors import UserError
from taid_vlm.models.saved import load_student
from taid_vlm.recipe import Recipe
from taid_vlm.training import train
from taid_vlm.training.checkpoint import complete_checkpoints
from tests.tiny.recipes import logged_steps, tiny_recipe

# A rate so high that the student soon gets worse again.
TRAINING: dict[str, Any] = {
    "steps": 6,
    "batch_size": 4,
    "lr": 5e-3,
    "precision": "fp32",
    "trackers": [],
    "validate_every": 2,
    "checkpoint_every": 100,
    "schedule": "constant",
}


def recipe_of(language_model: Path, easy_vqa: Path, **training: Any) -> Recipe:
    content = tiny_recipe(language_model, easy_vqa, training={**TRAINING, **training}).model_dump()
    content["student"]["train"]["language_model"] |= {"lr": 0.3}
    return Recipe.model_validate(content)


def validations(run_dir: Path) -> dict[int, float]:
    rows = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["validation_cross_entropy"] for row in rows if "validation_cross_entropy" in row}


def test_the_student_saved_is_the_best(
    tmp_path: Path, language_model: Path, easy_vqa: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(recipe_of(language_model, easy_vqa, keep_best="cross_entropy"), tmp_path / "best")
    figures = validations(tmp_path / "best")
    best = min(figures, key=lambda step: figures[step])
    assert best < max(figures)  # or the test would show nothing
    assert f"the student is that of step {best}" in capfd.readouterr().err
    assert f"held-out cross_entropy: {figures[best]:.4f}" in (tmp_path / "best" / "student" / "README.md").read_text()
    (kept,) = (path for path in complete_checkpoints(tmp_path / "best" / "checkpoints") if int(path.name[5:]) == best)
    state = torch.load(kept / "state.pt", weights_only=True)["weights"]
    saved = load_file(tmp_path / "best" / "student" / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in state.items() if name in saved)
    # The same student as of a run that stops there.
    train(recipe_of(language_model, easy_vqa, steps=best), tmp_path / "short")
    short = load_file(tmp_path / "short" / "student" / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in short.items())
    assert load_student(tmp_path / "best" / "student")


def test_a_figure_that_is_not_measured_is_named(tmp_path: Path, language_model: Path, easy_vqa: Path) -> None:
    with pytest.raises(UserError, match="no held-out figure 'kl_to_teacher', found: cross_entropy"):
        train(recipe_of(language_model, easy_vqa, keep_best="kl_to_teacher"), tmp_path / "run")
    with pytest.raises(ValueError, match="needs held-out samples"):
        Recipe.model_validate(
            {
                **tiny_recipe(language_model, easy_vqa).model_dump(),
                "data": {"train": [{"kind": "easy_vqa", "path": str(easy_vqa)}]},
                "training": {**TRAINING, "keep_best": "cross_entropy"},
            }
        )


def test_samples_of_steps_that_were_not_taken_are_written_down(
    tmp_path: Path, language_model: Path, easy_vqa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taid_vlm.training import update

    original, calls = update.figures_of, []

    def sometimes(output: Any) -> dict[str, float]:
        calls.append(1)
        return original(output) | ({"loss": math.nan} if len(calls) in (2, 5, 6) else {})

    monkeypatch.setattr(update, "figures_of", sometimes)
    changes: dict[str, Any] = {"validate_every": None, "max_skipped": 2, "steps": 8}
    with pytest.raises(
        UserError, match=r"in 2 steps in a row; the last samples: .* all of them are in .*skipped\.jsonl"
    ):
        train(recipe_of(language_model, easy_vqa, **changes), tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 5, 6]
    assert all(len(row["ids"]) == 4 for row in rows)
    steps = logged_steps(tmp_path / "run")
    assert [row["skipped"] for row in steps] == [0, 1, 1, 1, 2, 3]
