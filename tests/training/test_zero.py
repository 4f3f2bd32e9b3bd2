"""DeepSpeed's ZeRO: checkpoints that any strategy goes on from, steps that are left out, adapters and a trained temperature."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from taid_vlm.common.errors import UserError
from taid_vlm.recipe import Recipe, dump_recipe
from taid_vlm.training import train
from taid_vlm.training.zero import asked_for, check
from tests.tiny.recipes import distil, logged_steps
from tests.training.zero_worker import train_with

TRAINING: dict[str, Any] = {"steps": 6, "batch_size": 8, "lr": 1e-3, "precision": "fp32", "trackers": []}
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path, teacher: Path) -> Path:
    """``full``: all parts learn; ``half``: in bf16. ``adapters``: LoRA, a frozen encoder, CTKD's temperature, and the best
    student is that of step 2."""
    made = tmp_path_factory.mktemp("zero")
    training = {**TRAINING, "micro_batch_size": 2, "checkpoint_every": 2}
    full = distil(language_model, easy_vqa, teacher, cache=False).model_dump()
    full["student"]["vision_encoder"] |= {"name": "test_vit", "image_size": 160}
    full["student"]["train"] = {part: {"mode": "full"} for part in full["student"]["train"]}
    full["data"] |= {"cache_image_features": False}
    full["loss"] |= {"mass_rows": 0}
    full["training"] = {**training, "validate_every": 2, "keep_last": 9}
    half = {**full, "training": {**training, "steps": 1, "precision": "bf16"}}
    adapters = distil(
        language_model, easy_vqa, teacher, cache=False, loss={"name": "ctkd", "mass_rows": 0}
    ).model_dump()
    adapters["student"]["train"] |= {"language_model": {"mode": "lora"}}
    # The agreement of so few steps stays as it is.
    adapters["training"] = {
        **training,
        "gradient_checkpointing": True,
        "validate_every": 2,
        "keep_best": "cross_entropy",
    }
    for name, content in {"full": full, "half": half, "adapters": adapters}.items():
        (made / f"{name}.yaml").write_text(dump_recipe(Recipe.model_validate(content)))
    return made


@pytest.fixture(scope="module")
def runs(folder: Path) -> Path:
    names = ("full/smooth", "full/cut", "full/skips", "half/smooth", "adapters/cut")
    asked = [f"{strategy}/{name}" for strategy in ("zero2", "zero3") for name in names]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = [*launcher, "tests.training.zero_worker", str(folder), *asked]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-6000:]
    for mishap in ("smooth", "skips"):
        train_with(folder, "single", "full", mishap)
    for name in ("half", "adapters"):
        train_with(folder, "single", name, "smooth")
    return folder


def assert_close(one: Path, other: Path) -> None:
    for left, right in zip(logged_steps(one), logged_steps(other), strict=True):
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert right[name] == pytest.approx(value, rel=1e-4, abs=1e-6, nan_ok=True), (name, left["step"])
    left, right = (load_file(run / "student" / "model.safetensors") for run in (one, other))
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert float((right[name] - tensor).double().abs().mean()) < 1e-4, name


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_a_run_that_was_stopped_ends_in_the_same_bits(runs: Path, strategy: str) -> None:
    smooth, cut = (runs / f"{strategy}-full-{mishap}" for mishap in ("smooth", "cut"))
    for file in ("metrics.jsonl", "student/model.safetensors"):
        assert (smooth / file).read_bytes() == (cut / file).read_bytes(), file


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_steps_that_cannot_be_taken_leave_no_trace(runs: Path, strategy: str) -> None:
    assert_close(runs / "single-full-skips", runs / f"{strategy}-full-skips")
    assert logged_steps(runs / f"{strategy}-full-skips")[-1]["skipped"] == 2


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_adapters_and_a_trained_temperature(runs: Path, strategy: str) -> None:
    assert_close(runs / "single-adapters-smooth", runs / f"{strategy}-adapters-cut")
    temperatures = [step["temperature"] for step in logged_steps(runs / f"{strategy}-adapters-cut")]
    assert len(set(temperatures)) > 3
    found = [path.name for path in (runs / f"{strategy}-adapters-cut" / "checkpoints").iterdir()]
    assert found == ["step-000006"]  # the best student, and the last


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_it_computes_in_the_precision_of_the_run(runs: Path, strategy: str) -> None:
    names = ("single-full-smooth", f"{strategy}-full-smooth", "single-half-smooth", f"{strategy}-half-smooth")
    single, ours, single_half, ours_half = (logged_steps(runs / name)[0]["loss"] for name in names)
    assert ours_half == pytest.approx(single_half, rel=1e-2)
    assert abs(ours_half - single) > 50 * abs(ours - single)


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_one_process_goes_on_from_its_checkpoint(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    from taid_vlm.recipe import load_recipe

    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED", raising=False)
    shutil.copytree(runs / f"{strategy}-full-smooth", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "student")
    for later in ("step-000004", "step-000006"):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / later, ignore_errors=True)
    train(load_recipe(str(runs / "full.yaml")), tmp_path / "run")
    assert len(logged_steps(tmp_path / "run")) == TRAINING["steps"]
    assert_close(runs / "single-full-smooth", tmp_path / "run")


@needs_deepspeed
@pytest.mark.slow
def test_it_is_launched_by_its_name(runs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "taid_vlm", "launch", str(runs / "full.yaml"), "--gpus", "2"]
    command += ["--strategy", "zero3", "--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-4000:]
    assert_close(runs / "single-full-smooth", tmp_path / "run")  # here small parameters are whole everywhere


@pytest.mark.parametrize(
    ("changes", "strategy", "words"),
    [
        ({"optimizer": "adafactor"}, "zero2", "set optimizer: adamw"),
        ({"precision": "fp16"}, "zero2", "bf16 or fp32"),
        ({"ema": 0.9}, "zero3", "or zero2"),
        ({"compile": True}, "zero3", "or zero2"),
    ],
)
def test_what_does_not_go_with_it_is_refused(
    language_model: Path, easy_vqa: Path, teacher: Path, changes: dict[str, Any], strategy: str, words: str
) -> None:
    recipe = distil(language_model, easy_vqa, teacher, training={**TRAINING, **changes})
    with pytest.raises(UserError, match=words):
        check(strategy, recipe, recipe.training.precision)


def test_deepspeed_that_would_not_be_in_force_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(UserError, match="pip install"):
        asked_for(1)
    if find_spec("deepspeed") is None:
        return
    monkeypatch.delitem(sys.modules, "deepspeed")
    with pytest.raises(UserError, match="taid-vlm launch"):
        asked_for(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2 were, and 1 found each other"):
        asked_for(1)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "1")
    with pytest.raises(UserError, match="choose 2 or 3"):
        asked_for(2)
