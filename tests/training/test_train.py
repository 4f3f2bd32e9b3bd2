"""Training end to end on tiny parts: it learns, distils, resumes to the same bits, and counts what is bad."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from taid_vlm.common.errors import UserError
from taid_vlm.losses import schedule
from taid_vlm.models import load_student
from taid_vlm.recipe import Recipe
from taid_vlm.training import loop, train
from tests.tiny.data import write_easy_vqa
from tests.tiny.recipes import distil, logged_steps, tiny_recipe


def test_the_loss_falls_and_the_saved_student_answers(teacher: Path) -> None:
    log = logged_steps(teacher.parent)
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    loaded = load_student(teacher)
    assert loaded.parameters_total > 0


def test_t_rises_and_stays_in_its_bounds(tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path) -> None:
    train(distil(language_model, easy_vqa, teacher), tmp_path / "run")
    path = [row["t"] for row in logged_steps(tmp_path / "run")]
    assert path == sorted(path)
    assert path[0] == 0.4
    assert 0.4 < path[-1] <= 1.0


def test_a_run_says_at_its_end_that_momentum_kept_t_on_the_line(
    tmp_path: Path,
    language_model: Path,
    easy_vqa: Path,
    teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(schedule, "HELD_BACK", 1.0)  # any momentum is held to be too low
    for name, alpha in (("said", 5.9), ("linear-anyway", 1.0)):
        train(distil(language_model, easy_vqa, teacher, loss={"name": "taid", "alpha_total": alpha}), tmp_path / name)
        assert ("take more samples per step" in capsys.readouterr().err) == (name == "said")


def test_taid_at_t_1_is_kl(tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path) -> None:
    constant = {"name": "taid", "schedule": "constant", "t_start": 1.0}
    train(distil(language_model, easy_vqa, teacher, loss=constant), tmp_path / "taid")
    train(distil(language_model, easy_vqa, teacher, loss={"name": "kl"}), tmp_path / "kl")
    for left, right in zip(logged_steps(tmp_path / "taid"), logged_steps(tmp_path / "kl"), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-6)


def test_cached_and_online_teacher_agree(tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path) -> None:
    train(distil(language_model, easy_vqa, teacher), tmp_path / "cached")
    train(distil(language_model, easy_vqa, teacher, cache=False), tmp_path / "online")
    for left, right in zip(logged_steps(tmp_path / "cached"), logged_steps(tmp_path / "online"), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-4)


def test_an_interrupted_run_ends_in_the_same_bits(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = distil(language_model, easy_vqa, teacher)
    train(recipe, tmp_path / "whole")
    step = loop._Run._step

    def dies_at_5(self: Any, batches: Any) -> None:
        if self.progress.step == 5:
            raise KeyboardInterrupt
        step(self, batches)

    # Not undo(), which would also take back the cache folder that every test has of its own.
    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_step", dies_at_5)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "cut")
    assert not (tmp_path / "cut" / "student").exists()
    train(recipe, tmp_path / "cut")
    assert (tmp_path / "cut" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    weights = [(tmp_path / name / "student" / "model.safetensors").read_bytes() for name in ("cut", "whole")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("micro", [1, 2])
def test_micro_batches_do_not_change_the_gradient(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path, micro: int
) -> None:
    settings = {"steps": 3, "batch_size": 4, "lr": 5e-3, "precision": "fp32"}
    train(distil(language_model, easy_vqa, teacher, training=settings), tmp_path / "whole")
    train(
        distil(language_model, easy_vqa, teacher, training={**settings, "micro_batch_size": micro}), tmp_path / "split"
    )
    for left, right in zip(logged_steps(tmp_path / "whole"), logged_steps(tmp_path / "split"), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-4)
        assert left["grad_norm"] == pytest.approx(right["grad_norm"], rel=1e-4)
        assert left["t"] == pytest.approx(right["t"], abs=1e-7)


def test_validation_leaves_the_run_alone(tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path) -> None:
    settings = {"steps": 6, "batch_size": 4, "lr": 5e-3, "precision": "fp32"}
    train(distil(language_model, easy_vqa, teacher, training=settings), tmp_path / "rare")
    train(distil(language_model, easy_vqa, teacher, training={**settings, "validate_every": 1}), tmp_path / "often")
    assert logged_steps(tmp_path / "rare") == logged_steps(tmp_path / "often")


def test_a_finished_run_is_not_trained_again_and_another_recipe_is_refused(
    tmp_path: Path, language_model: Path, easy_vqa: Path
) -> None:
    recipe = tiny_recipe(language_model, easy_vqa)
    first = train(recipe, tmp_path / "run")
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert train(recipe, tmp_path / "run") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match=r"another recipe.*seed: 1"):
        train(tiny_recipe(language_model, easy_vqa, seed=1), tmp_path / "run")


@pytest.mark.parametrize("cached", [True, False])
def test_a_broken_picture_is_refused_or_skipped_and_counted(
    tmp_path: Path, language_model: Path, cached: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    root = write_easy_vqa(tmp_path / "data", train=6)
    broken = root / "easy_vqa" / "data" / "train" / "images" / "3.png"
    broken.write_bytes(broken.read_bytes()[:40])
    data = {"train": [{"kind": "easy_vqa", "path": str(root)}], "cache_image_features": cached}
    training = {"steps": 3, "batch_size": 6, "lr": 1e-3, "precision": "fp32"}
    with pytest.raises(UserError, match=r"3\.png"):
        train(tiny_recipe(language_model, root, data=data, training=training), tmp_path / "refuse")
    skip = {**data, "on_bad_sample": "skip"}
    train(tiny_recipe(language_model, root, data=skip, training=training), tmp_path / "skip")
    if cached:
        out = capfd.readouterr().out
        assert "samples are skipped; the first: picture cannot be read" in out
        assert "pictures, by reason: 1 broken picture" in out
    assert all(row["loss"] > 0 for row in logged_steps(tmp_path / "skip"))
    if not cached:
        assert logged_steps(tmp_path / "skip")[-1]["dropped"] == 3


def test_lora_trains_adapters_only_and_merges_exactly(tmp_path: Path, language_model: Path, easy_vqa: Path) -> None:
    base = tiny_recipe(language_model, easy_vqa).model_dump()
    base["student"]["train"]["language_model"] = {"mode": "lora", "lr": 1e-2, "lora": {"rank": 2, "alpha": 4}}
    recipe = Recipe.model_validate({**base, "save": "trained"})
    folder = train(recipe, tmp_path / "run")
    merged, apart = load_student(folder), load_student(folder, merge=False)
    names = {n for n, p in apart.student.named_parameters() if p.requires_grad}
    assert names
    assert all("lora_" in n or n.startswith("projector.") for n in names)
    ids = torch.arange(4, 20).unsqueeze(0)
    left = merged.student.language_model(input_ids=ids).logits
    right = apart.student.language_model(input_ids=ids).logits
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)
    assert not any("lora" in n for n, _ in merged.student.named_parameters())


def test_damaged_weights_are_named(tmp_path: Path, teacher: Path) -> None:
    copy = shutil.copytree(teacher, tmp_path / "copy")
    file = Path(copy) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="wrong hash"):
        load_student(copy)


def test_a_tracker_that_is_not_installed_is_told_before_training(
    tmp_path: Path, language_model: Path, easy_vqa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    with pytest.raises(UserError, match="'tensorboard' is not installed: pip install tensorboard"):
        train(tiny_recipe(language_model, easy_vqa), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_mistake_found_while_starting_does_not_take_the_folder(
    tmp_path: Path, language_model: Path, easy_vqa: Path
) -> None:
    base = tiny_recipe(language_model, easy_vqa).model_dump()
    wrong = {**base, "data": {**base["data"], "train": [{"kind": "easy_vqua", "path": str(easy_vqa)}]}}
    with pytest.raises(UserError, match="easy_vqa"):
        train(Recipe.model_validate(wrong), tmp_path / "run")
    train(Recipe.model_validate(base), tmp_path / "run")
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["data"]["train"][0]["kind"] == "easy_vqa"
