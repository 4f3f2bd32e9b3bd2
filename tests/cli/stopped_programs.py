"""The program as a process that gets a signal at a known place of its work."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from taid_vlm.cli import app
from tests.eval.fakes import without_speed

# Functions that a test lets wait.
STUDENT_ANSWERS = "taid_vlm_eval.models.student:StudentModel.answer"
STEP = "taid_vlm.training.loop:_Run._step"
TRAINING: dict[str, Any] = {"steps": 4, "batch_size": 4, "lr": 5e-3, "precision": "fp32", "trackers": []}
ROOT = Path(__file__).parents[2]
KEPT = "stopped: what was done is kept; the same command goes on from there\n  taid-vlm {}\n"
LOST = "stopped: nothing was kept; the same command starts anew\n"
CHECKPOINT = (
    "stopped: asked to stop ({}): a checkpoint of step {} of {} was written; the same command goes on from it\n"
    "  taid-vlm {}\n"
)

# One of its functions waits for a signal before it does its work, the first time or after some pieces of it.
PROGRAM = """
import importlib, os, select, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background of a shell ignores it
import taid_vlm.cli
{before}
module, path, pieces = {module!r}, {path!r}.split("."), {pieces!r}
owner = importlib.import_module(module)
for name in path[:-1]:
    owner = getattr(owner, name)
work, calls = getattr(owner, path[-1]), []
came, comes = os.pipe()
os.set_blocking(comes, False)
signal.set_wakeup_fd(comes)
def wait(*given, **named):
    calls.append(1)
    if len(calls) == pieces + 1:
        print("waiting", file=sys.__stdout__, flush=True)
        assert select.select([came], [], [], 300)[0], "no signal came"
    return work(*given, **named)
setattr(owner, path[-1], wait)
sys.argv = ["taid-vlm", *{arguments!r}]
taid_vlm.cli.main()
"""


@dataclass(frozen=True)
class Stopped:
    """What a shell sees of a program that was stopped, and its children of just before."""

    status: int
    errors: str
    children: list[int]


@contextmanager
def started(
    folder: Path, place: str, arguments: list[str], pieces: int = 0, before: str = ""
) -> "Iterator[subprocess.Popen[str]]":
    """The program, as soon as it waits.

    Args:
        folder: that it is started in. place: MODULE:NAME of the function that waits, after so many ``pieces``.
        before: lines that the program begins with.
    """
    module, _, path = place.partition(":")
    program = PROGRAM.format(module=module, path=path, arguments=arguments, pieces=pieces, before=before)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "eval")])
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
    )
    try:
        expect(process, "waiting")
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def expect(process: "subprocess.Popen[str]", said: str) -> None:
    """Read its standard output up to a line."""
    assert process.stdout is not None
    while (line := process.stdout.readline()) != f"{said}\n":
        assert line, process.communicate()[1]


def ask(process: "subprocess.Popen[str]", number: int) -> None:
    """Ctrl-C reaches all processes of a terminal, SIGTERM the one that it is meant for."""
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


def stop(
    folder: Path,
    number: int,
    place: str,
    arguments: list[str],
    pieces: int = 0,
    before: str = "",
    ready: Callable[[], bool] = lambda: True,
) -> Stopped:
    """Ask the program to stop where it waits, once something else is ``ready``, too."""
    with started(folder, place, arguments, pieces, before) as process:
        wait_until(ready)
        children = children_of(process)
        ask(process, number)
        _, errors = process.communicate(timeout=200)
        assert "Traceback" not in errors, errors
        return Stopped(process.returncode, errors, children)


def children_of(process: "subprocess.Popen[str]") -> list[int]:
    """Processes that it has started and that are there."""
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_until(what: Callable[[], bool]) -> None:
    """Look again and again, for two minutes."""
    until = time.monotonic() + 120
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def assert_gone(processes: list[int]) -> None:
    """None of them is left."""
    wait_until(lambda: not any(Path(f"/proc/{number}").exists() for number in processes))


def run(*arguments: str) -> str:
    """The same command in this process, which nothing stops; what it prints."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below, hidden ones too, by its path."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def evaluated(folder: Path) -> dict[str, Any]:
    """Everything that an evaluation of the task ``small`` wrote, but for its speed."""
    found: dict[str, Any] = contents(folder)
    return found | {"small.result.json": without_speed(folder / "small.result.json")}
