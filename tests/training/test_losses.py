"""Every loss by its recipe: it trains, reports what the others report, and keeps its own state."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from taid_vlm.common.errors import UserError
from taid_vlm.losses import LOSS_NAMES
from taid_vlm.recipe import Recipe
from taid_vlm.training import loop, train
from tests.tiny.recipes import distil, logged_steps

SHORT = {"steps": 2, "batch_size": 4, "lr": 5e-3, "precision": "fp32", "trackers": []}
FIGURES = {
    *("loss", "kd", "cross_entropy", "kl_teacher", "kl_target", "ce_target", "agreement"),
    *("student_entropy", "teacher_entropy", "head_mass", "tail_mass"),
}


@pytest.mark.parametrize("semantics", ["paper", "reference"])
@pytest.mark.parametrize("name", [name for name in LOSS_NAMES if name != "sft"])
def test_every_loss_trains_and_reports(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path, name: str, semantics: str
) -> None:
    loss = {"name": name, "ce_weight": 0.1, "semantics": semantics}
    recipe = distil(language_model, easy_vqa, teacher, loss=loss, training=SHORT)
    if semantics == "reference" and name in ("ab", "amid", "todi", "distillm2"):
        with pytest.raises(UserError, match="not in the TAID authors' code"):
            train(recipe, tmp_path / "run")
        return
    train(recipe, tmp_path / "run")
    for step in logged_steps(tmp_path / "run"):
        assert step.keys() >= FIGURES
        assert step["loss"] == pytest.approx(step["kd"] + 0.1 * step["cross_entropy"], rel=1e-5)
        assert 0 < step["tail_mass"] < 0.2  # of a fifth of the vocabulary
        assert 10 / 264 < step["head_mass"] < 1


def test_options_and_composition_reach_the_loss(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path
) -> None:
    def first(loss: dict[str, Any], output: str) -> float:
        run = tmp_path / output
        train(distil(language_model, easy_vqa, teacher, loss=loss, training={**SHORT, "steps": 1}), run)
        return logged_steps(run)[0]["loss"]

    assert first({"name": "jsd", "options": {"beta": 0.0}}, "a") == pytest.approx(first({"name": "kl"}, "b"), rel=1e-5)
    arrived = {"name": "taid", "divergence": "rkl", "schedule": "constant", "t_start": 1.0}
    assert first(arrived, "c") == pytest.approx(first({"name": "rkl"}, "d"), rel=1e-5)
    assert first({"name": "rkl", "kd_weight": 0.5}, "e") == pytest.approx(first({"name": "rkl"}, "f") / 2, rel=1e-5)
    with pytest.raises(UserError, match=r"loss 'jsd' has no option 'beat'.*did you mean 'beta'"):
        first({"name": "jsd", "options": {"beat": 0.5}}, "g")


def test_reference_semantics_drive_t_by_cross_entropy(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path
) -> None:
    seen: dict[str, list[float]] = {}
    for semantics in ("paper", "reference"):
        loss = {"name": "taid", "semantics": semantics, "alpha_total": 20.0}
        recipe = distil(language_model, easy_vqa, teacher, loss=loss, training={**SHORT, "steps": 4})
        assert recipe.loss.clock_signal == {"paper": "kl_target", "reference": "ce_target"}[semantics]
        train(recipe, tmp_path / semantics)
        seen[semantics] = [step["momentum"] for step in logged_steps(tmp_path / semantics)]
    assert seen["paper"][0] == seen["reference"][0] == 0
    assert seen["paper"][-1] != seen["reference"][-1]


def ctkd(language_model: Path, easy_vqa: Path, teacher: Path, steps: int = 6) -> Any:
    loss = {"name": "ctkd", "temperature": {"lr": 0.5, "ramp_steps": 2}}
    training = {**SHORT, "steps": steps, "checkpoint_every": 2, "weight_decay": 0.1}
    return distil(language_model, easy_vqa, teacher, loss=loss, training=training)


def test_the_temperature_of_ctkd_is_trained_and_resumes_to_the_same_bits(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = ctkd(language_model, easy_vqa, teacher)
    student = train(recipe, tmp_path / "whole")
    path = [step["temperature"] for step in logged_steps(tmp_path / "whole")]
    # Nothing is reversed at the first step, so theta stands still; then it moves.
    assert path[0] == pytest.approx(15.62, abs=0.01)
    assert abs(path[-1] - path[0]) > 0.1
    step = loop._Run._step

    def dies_at_3(self: Any, batches: Any) -> None:
        if self.progress.step == 3:
            raise KeyboardInterrupt
        step(self, batches)

    monkeypatch.setattr(loop._Run, "_step", dies_at_3)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut")
    monkeypatch.setattr(loop._Run, "_step", step)
    train(recipe, tmp_path / "cut")
    assert logged_steps(tmp_path / "cut") == logged_steps(tmp_path / "whole")
    # The method's state is in checkpoints only: no trace of it in the model.
    names = load_file(student / "model.safetensors")
    assert not any("theta" in name or "temperature" in name for name in names)


def test_the_temperature_rises_with_the_loss(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path
) -> None:
    """Reversed, theta climbs the loss: with a student that stands still, kd is higher where theta has gone."""
    recipe = ctkd(language_model, easy_vqa, teacher, steps=8)
    content = recipe.model_dump()
    for part in ("projector", "language_model"):
        content["student"]["train"][part]["lr"] = 1e-12
    train(Recipe.model_validate(content), tmp_path / "run")
    steps = logged_steps(tmp_path / "run")
    assert torch.tensor([step["temperature"] for step in steps]).diff().abs().max() > 0.01
    by_temperature = sorted((step["temperature"], step["kd"]) for step in steps[1:])
    direction = steps[-1]["temperature"] - steps[0]["temperature"]
    grew = by_temperature[-1][1] - by_temperature[0][1]
    assert grew * direction > 0
