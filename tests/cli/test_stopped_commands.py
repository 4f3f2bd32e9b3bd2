"""Long commands that get Ctrl-C or SIGTERM at their work: a status, how to go on, nothing half-written, and no process left."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from taid_vlm.common.stopping import INTERRUPTED, TERMINATED
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
    stopped = stop(tmp_path, signal.SIGTERM, "taid_vlm.training.setup:open_teacher", ["train", "r.yaml"])
    assert stopped == Stopped(TERMINATED, KEPT.format("train r.yaml"), [])


@pytest.mark.slow
def test_a_cache_keeps_the_samples_that_are_done(tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = stop(tmp_path, signal.SIGINT, "taid_vlm.training.cache.fill:_check", ["cache", "r.yaml"], pieces=1)
    assert (stopped.status, stopped.errors) == (INTERRUPTED, KEPT.format("cache r.yaml"))
    assert not list((tmp_path / "cache").rglob(".writing-*"))


@pytest.mark.slow
def test_an_export_leaves_nothing_and_ends_the_process_that_reloads_it(tmp_path: Path, student: Path) -> None:
    place = "taid_vlm.export.gate:FreshProcess.ask"
    stopped = stop(tmp_path, signal.SIGTERM, place, ["export", str(student), "exported", "--to", "custom"])
    assert (stopped.status, stopped.errors) == (TERMINATED, LOST)
    assert len(stopped.children) == 1
    assert_gone(stopped.children)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_an_evaluation_keeps_its_answers_and_ends_the_processes_beside_it(
    tmp_path: Path, student: Path, easy_vqa: Path
) -> None:
    place = "taid_vlm_eval.models.student:StudentModel.generate"
    arguments = ["eval", str(student), "--tasks", "chatterbot", "--processes", "2", "--output", "out"]
    stopped = stop(tmp_path, signal.SIGINT, place, arguments)
    assert (stopped.status, stopped.errors) == (INTERRUPTED, KEPT.format(" ".join(arguments)))
    assert len(stopped.children) == 1
    assert_gone(stopped.children)


@pytest.mark.slow
def test_a_quickstart_says_the_command_that_goes_on(tmp_path: Path) -> None:
    arguments = ["quickstart", "training.steps=3", "--output", "a folder"]
    stopped = stop(tmp_path, signal.SIGTERM, "taid_vlm.quickstart:asset_path", arguments)
    assert stopped == Stopped(TERMINATED, KEPT.format("quickstart training.steps=3 --output 'a folder'"), [])
