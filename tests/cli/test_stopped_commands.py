"""Long commands that get Ctrl-C or SIGTERM at their work: a status, how to go on, nothing half-written, and no process left."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from taid_vlm.common.stopping import TERMINATED
from taid_vlm.recipe import dump_recipe
from taid_vlm.training import train
from tests.tiny.recipes import distil, tiny_recipe

# The program, in which one function waits in place of its work, or after a first piece of it.
PROGRAM = """
import importlib, sys, time
import taid_vlm.cli
module, path, pieces = {module!r}, {path!r}.split("."), {pieces!r}
owner = importlib.import_module(module)
for name in path[:-1]:
    owner = getattr(owner, name)
work, calls = getattr(owner, path[-1]), []
def wait(*given, **named):
    calls.append(1)
    if len(calls) <= pieces:
        return work(*given, **named)
    print("waiting", file=sys.__stdout__, flush=True)
    time.sleep(300)
setattr(owner, path[-1], wait)
sys.argv = ["taid-vlm", *{arguments!r}]
taid_vlm.cli.main()
"""
KEPT = "stopped: what was done is kept; the same command goes on from there\n  taid-vlm {}\n"
LOST = "stopped: nothing was kept; the same command starts anew\n"


@dataclass(frozen=True)
class Stopped:
    """What a shell sees of a program that was stopped, and its children of just before."""

    status: int
    errors: str
    children: list[int]


def stop(folder: Path, number: int, place: str, arguments: list[str], pieces: int = 0) -> Stopped:
    module, _, path = place.partition(":")
    program = PROGRAM.format(module=module, path=path, arguments=arguments, pieces=pieces)
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while (line := process.stdout.readline()) != "waiting\n":
        assert line, process.communicate()[1]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(number)
    _, errors = process.communicate(timeout=600)
    return Stopped(process.returncode, errors, [int(child) for child in children])


def assert_gone(processes: list[int]) -> None:
    until = time.monotonic() + 120
    while any(Path(f"/proc/{number}").exists() for number in processes):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    recipe = tiny_recipe(language_model, easy_vqa).model_dump()
    recipe["training"] |= {"steps": 1, "trackers": []}
    recipe["student"]["language_model"]["layers"] = None
    return train(tiny_recipe(language_model, easy_vqa, **recipe), tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def recipe(tmp_path: Path, language_model: Path, easy_vqa: Path, student: Path) -> Path:
    (tmp_path / "r.yaml").write_text(dump_recipe(distil(language_model, easy_vqa, student)))
    return tmp_path / "r.yaml"


@pytest.mark.slow
def test_training_that_is_still_loading(tmp_path: Path, recipe: Path) -> None:
    stopped = stop(tmp_path, signal.SIGTERM, "taid_vlm.training.setup:build_student", ["train", "r.yaml"])
    assert stopped.status == TERMINATED
    assert stopped.errors.endswith(KEPT.format("train r.yaml"))
    assert "Traceback" not in stopped.errors


@pytest.mark.slow
def test_an_export_leaves_nothing_and_ends_the_process_that_reloads_it(tmp_path: Path, student: Path) -> None:
    place = "taid_vlm.export.gate:FreshProcess.ask"
    stopped = stop(tmp_path, signal.SIGTERM, place, ["export", str(student), "exported", "--to", "custom"])
    assert stopped.status == TERMINATED
    assert stopped.errors.endswith(LOST)
    assert "Traceback" not in stopped.errors
    assert len(stopped.children) == 1
    assert_gone(stopped.children)
    assert os.listdir(tmp_path) == []
