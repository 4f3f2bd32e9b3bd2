"""Runs of the real loop with student-written answers: two processes are one, and a killed run goes on to the same bytes."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from taid_vlm.recipe import dump_recipe
from taid_vlm.training import train
from tests.training.on_policy_cases import recipe_for
from tests.training.test_two_processes import launch, rows

TRAINING: dict[str, Any] = {"steps": 8, "batch_size": 4, "lr": 5e-3, "checkpoint_every": 2, "trackers": []}
ADAPTIVE = {"sampler": "adaptive", "adaptive": {"start": 0.7, "tolerance": 0.0}, "replay": {"capacity": 6}}


@pytest.mark.slow
def test_two_processes_write_what_one_does(tmp_path: Path, language_model: Path) -> None:
    spec = {"share": 0.6, "draw": "sample"}
    one = recipe_for(tmp_path, language_model, on_policy=spec, training=TRAINING)
    two = recipe_for(tmp_path, language_model, on_policy=spec, training={**TRAINING, "micro_batch_size": 1})
    train(one, tmp_path / "one")
    launch(two, tmp_path, "two")
    for left, right in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert left.keys() == right.keys()
        for name, value in left.items():
            # An answer that came out otherwise would show in its rows.
            assert right[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    steps = [row for row in rows(tmp_path / "one") if "loss" in row]
    assert 0 < sum(row["on_policy_written"] for row in steps) < 4 * len(steps)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, language_model: Path) -> None:
    recipe = recipe_for(tmp_path, language_model, on_policy=ADAPTIVE, training=TRAINING)
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    command = [sys.executable, "-m", "taid_vlm", "train", "r.yaml", "--output"]
    subprocess.run([*command, "whole"], cwd=tmp_path, check=True, capture_output=True, timeout=240)
    cut = subprocess.Popen([*command, "cut"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "cut" / "checkpoints" / "step-000004").exists() and cut.poll() is None:
        time.sleep(0.01)
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    assert not (tmp_path / "cut" / "student").exists()
    subprocess.run([*command, "cut"], cwd=tmp_path, check=True, capture_output=True, timeout=240)
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut")]
    assert logs[0] == logs[1]
    whole, resumed = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    steps = [row for row in rows(tmp_path / "whole") if "loss" in row]
    assert sum(row["on_policy_replayed"] for row in steps) > 0
