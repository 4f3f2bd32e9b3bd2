"""Runs that are killed, asked to stop, or lose a process: nothing is lost, and the end is the same to the byte."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from taid_vlm.common.stopping import RESUMABLE
from taid_vlm.recipe import Recipe, dump_recipe
from taid_vlm.training import train
from tests.tiny.recipes import distil, logged_steps

TRAINING: dict[str, Any] = {"steps": 300, "batch_size": 4, "lr": 5e-3, "precision": "fp32", "trackers": []}
KILLS = 20


def recipe_of(language_model: Path, easy_vqa: Path, teacher: Path, **training: Any) -> Recipe:
    return distil(language_model, easy_vqa, teacher, training={**TRAINING, **training})


def assert_same(one: Path, other: Path) -> None:
    for file in ("metrics.jsonl", "student/model.safetensors"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


def in_a_fork(recipe: Recipe, run_dir: Path) -> None:
    torch.set_num_threads(1)
    train(recipe, run_dir)


@pytest.mark.slow
def test_twenty_kills_at_any_moment(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(language_model, easy_vqa, teacher, checkpoint_every=3, steps=600, log_every=600)
    draw, kills, while_writing = random.Random(0), 0, 0
    checkpoints, context = tmp_path / "cut" / "checkpoints", get_context("fork")
    while not (tmp_path / "cut" / "student").exists():
        process = context.Process(target=in_a_fork, args=(recipe, tmp_path / "cut"))
        process.start()
        if kills < KILLS:
            known = set(checkpoints.glob("step-*"))
            wait_for(lambda known=known: bool(set(checkpoints.glob("step-*")) - known), process)  # type: ignore[misc]
            if kills % 2:  # in the middle of a checkpoint
                wait_for(lambda: any(checkpoints.glob(".step-*")), process)
                while_writing += any(checkpoints.glob(".step-*"))
            else:
                time.sleep(draw.random() * 0.1)
            os.kill(process.pid or 0, signal.SIGKILL)
            kills += process.exitcode is None
        process.join()
    assert kills == KILLS
    assert while_writing > KILLS // 4
    context.Process(target=in_a_fork, args=(recipe, tmp_path / "whole")).start()
    wait_for(lambda: (tmp_path / "whole" / "student").exists())
    assert_same(tmp_path / "cut", tmp_path / "whole")


def wait_for(what: Callable[[], bool], process: Any = None, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what() and (process is None or process.is_alive()):
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "taid_vlm", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]", seconds: float = 200) -> tuple[int, str]:
    _, errors = process.communicate(timeout=seconds)
    return process.returncode, errors


def some_steps(run_dir: Path) -> bool:
    return (run_dir / "metrics.jsonl").exists() and len(logged_steps_so_far(run_dir)) >= 5


def logged_steps_so_far(run_dir: Path) -> list[str]:
    return (run_dir / "metrics.jsonl").read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_asked_to_stop_it_writes_a_checkpoint_and_says_how_to_go_on(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path, name: str
) -> None:
    recipe = recipe_of(language_model, easy_vqa, teacher, checkpoint_every=1000)
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    process = start(tmp_path, "train", "r.yaml", "--output", "cut")
    wait_for(lambda: some_steps(tmp_path / "cut"))
    process.send_signal(getattr(signal, name))
    status, errors = finish(process)
    assert status == RESUMABLE
    assert f"asked to stop ({name})" in errors
    assert "the same command goes on" in errors
    (saved,) = (tmp_path / "cut" / "checkpoints").glob("step-*")
    assert int(saved.name[5:]) == len(logged_steps(tmp_path / "cut"))
    assert finish(start(tmp_path, "train", "r.yaml", "--output", "cut"))[0] == 0
    train(recipe, tmp_path / "whole")
    assert_same(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.slow
def test_sharded_processes_stop_together_and_go_on_to_the_same_bits(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path
) -> None:
    # Checkpoints right after validations, which leave weights gathered, and workers, which the signal reaches as well.
    often = {"checkpoint_every": 4, "validate_every": 4, "keep_best": "cross_entropy"}
    recipe = recipe_of(language_model, easy_vqa, teacher, steps=60, ema=0.9, **often)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"workers": 1})})
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    command = ["launch", "r.yaml", "--gpus", "2", "--strategy", "fsdp2", "--output"]
    process = start(tmp_path, *command, "cut")
    wait_for(lambda: some_steps(tmp_path / "cut"))
    process.send_signal(signal.SIGTERM)
    status, errors = finish(process)
    assert status == RESUMABLE, errors[-2000:]
    assert "the same command goes on" in errors
    newest = max(int(path.name[5:]) for path in (tmp_path / "cut" / "checkpoints").glob("step-*"))
    assert newest == len(logged_steps(tmp_path / "cut"))
    for output in ("cut", "whole"):
        status, errors = finish(start(tmp_path, *command, output))
        assert status == 0, errors[-3000:]
    assert_same(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_process_that_dies_ends_the_others_with_a_message(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path, strategy: str
) -> None:
    recipe = recipe_of(language_model, easy_vqa, teacher, steps=3000)
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    process = start(tmp_path, "launch", "r.yaml", "--gpus", "2", "--strategy", strategy, "--output", "cut")
    wait_for(lambda: some_steps(tmp_path / "cut"))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [int(child) for child in children if "train" in Path(f"/proc/{child}/cmdline").read_text()]
    os.kill(workers[1], signal.SIGKILL)
    killed = time.monotonic()
    status, errors = finish(process)
    assert status == 1
    assert time.monotonic() - killed < 60
    assert "ended with status -9" in errors
    assert "Traceback" not in errors.split("error:")[-1]
