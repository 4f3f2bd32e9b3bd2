"""Two processes train the same model as one: gradients are averaged over all answer tokens, and t stays one number."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from taid_vlm.recipe import Recipe, dump_recipe
from taid_vlm.training import train
from tests.tiny.recipes import tiny_recipe

TRAINING = {"steps": 4, "batch_size": 4, "lr": 5e-3, "checkpoint_every": 2, "precision": "fp32", "trackers": []}


def rows(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def launch(recipe: Recipe, folder: Path, output: str) -> None:
    (folder / f"{output}.yaml").write_text(dump_recipe(recipe))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = [*launcher, "taid_vlm", "train", f"{output}.yaml", "--output", output]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "cached"), [("taid", True), ("ctkd", False)])
def test_two_processes_are_one(tmp_path: Path, language_model: Path, easy_vqa: Path, loss: str, cached: bool) -> None:
    teacher = train(tiny_recipe(language_model, easy_vqa), tmp_path / "teacher")
    changes: dict[str, Any] = {
        "teacher": {"checkpoint": str(teacher), "cache": {"enabled": cached}},
        # Masses are taken at some rows of each batch, so they depend on how samples are dealt.
        "loss": {"name": loss, "alpha_total": 20.0, "mass_rows": 0},
    }
    student = tiny_recipe(language_model, easy_vqa).student.model_dump()
    # Small steps: AdamW makes much of the rounding of a gradient that is nearly zero.
    student["train"] |= {part: {"mode": "full", "lr": 1e-3} for part in ("projector", "language_model")}
    changes["student"] = student
    one = tiny_recipe(language_model, easy_vqa, training=TRAINING, **changes)
    # In two processes of two samples, and in micro-batches of one: three ways to deal the same four samples.
    two = tiny_recipe(language_model, easy_vqa, training={**TRAINING, "micro_batch_size": 1}, **changes)
    train(one, tmp_path / "one")
    launch(two, tmp_path, "two")
    for left, right in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert right[name] == pytest.approx(value, rel=2e-4, abs=1e-6), name
    whole = load_file(tmp_path / "one" / "student" / "model.safetensors")
    split = load_file(tmp_path / "two" / "student" / "model.safetensors")
    assert whole.keys() == split.keys()
    assert max(float((whole[name].float() - split[name].float()).abs().max()) for name in whole) < 2e-3


@pytest.mark.slow
def test_samples_that_cannot_be_dealt_evenly_are_refused(tmp_path: Path, language_model: Path, easy_vqa: Path) -> None:
    recipe = tiny_recipe(language_model, easy_vqa, training={**TRAINING, "batch_size": 3})
    (tmp_path / "odd.yaml").write_text(dump_recipe(recipe))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = [*launcher, "taid_vlm", "train", "odd.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert "cannot be dealt to 2 processes" in done.stderr
