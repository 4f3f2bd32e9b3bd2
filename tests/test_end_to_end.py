"""One user's day on tiny parts: teacher, student killed by SIGKILL and started again, evaluation, a question."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import taid_vlm_eval
from taid_vlm.recipe import dump_recipe
from tests.process import PROGRAM, output_of
from tests.tiny.recipes import tiny_recipe

TASKS = Path(taid_vlm_eval.__file__).parent / "tasks"
TRAINING = {"steps": 400, "batch_size": 8, "lr": 5e-3, "checkpoint_every": 7, "precision": "fp32", "trackers": []}


def kill_in_the_middle(folder: Path, output: str, *arguments: str) -> None:
    process = subprocess.Popen([*PROGRAM, *arguments], cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((folder / output / "checkpoints").glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / output / "student").exists()


@pytest.mark.slow
def test_train_kill_resume_evaluate_chat(tmp_path: Path, language_model: Path, easy_vqa: Path) -> None:
    teacher: dict[str, Any] = {"teacher": {"checkpoint": "./runs/teacher/student"}, "loss": {"name": "taid"}}
    sft = tiny_recipe(language_model, easy_vqa, training={**TRAINING, "steps": 300})
    (tmp_path / "teacher.yaml").write_text(dump_recipe(sft))
    taid = tiny_recipe(language_model, easy_vqa, training=TRAINING, **teacher)
    (tmp_path / "taid.yaml").write_text(dump_recipe(taid))
    output_of("train", "teacher.yaml", "--output", "runs/teacher", cwd=tmp_path)

    train = ["train", "taid.yaml", "--output"]
    kill_in_the_middle(tmp_path, "runs/cut", *train, "runs/cut")
    output_of(*train, "runs/cut", cwd=tmp_path)
    output_of(*train, "runs/whole", cwd=tmp_path)
    for file in ("metrics.jsonl", "student/model.safetensors"):
        assert (tmp_path / "runs/cut" / file).read_bytes() == (tmp_path / "runs/whole" / file).read_bytes()

    task = yaml.safe_load((TASKS / "easy_vqa.yaml").read_text()) | {"name": "colours"}
    task["data"]["path"] = str(easy_vqa)
    (tmp_path / "colours.yaml").write_text(yaml.safe_dump(task))
    (result,) = json.loads(output_of("eval", "runs/cut/student", "--tasks", "colours.yaml", "--json", cwd=tmp_path))
    assert result["n"] == 8
    assert result["value"] > result["majority"] == 0.5

    picture = next((easy_vqa / "easy_vqa" / "data" / "test" / "images").glob("0.png"))
    answer = output_of("chat", "runs/cut/student", "--image", str(picture), "--prompt", "what color?", cwd=tmp_path)
    assert answer.strip() == "red"
