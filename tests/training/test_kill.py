"""SIGKILL in the middle of a run; started again it ends with the same weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taid_vlm.recipe import dump_recipe
from tests.tiny.recipes import tiny_recipe


@pytest.mark.slow
def test_killed_and_started_again(tmp_path: Path, language_model: Path, easy_vqa: Path) -> None:
    training = {"steps": 300, "batch_size": 4, "lr": 5e-3, "checkpoint_every": 7, "precision": "fp32", "trackers": []}
    (tmp_path / "tiny.yaml").write_text(dump_recipe(tiny_recipe(language_model, easy_vqa, training=training)))
    command = [sys.executable, "-m", "taid_vlm", "train", "tiny.yaml", "--output"]
    process = subprocess.Popen([*command, "cut"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cut" / "checkpoints").glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "student").exists()
    for name in ("cut", "whole"):
        subprocess.run([*command, name], cwd=tmp_path, check=True, capture_output=True)
    for file in ("metrics.jsonl", "student/model.safetensors"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
