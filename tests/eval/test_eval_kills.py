"""The command itself, killed at moments that nobody chose, ends with the files of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.eval.fakes import small_task, without_speed

ROOT = Path(__file__).parents[2]
# The command, but for the model, which takes its time. A line is printed when all is imported.
COMMAND = """
import sys, time
from taid_vlm_eval import cli
from tests.eval.fakes import FakeModel, sees_colour
def slowly(request):
    time.sleep(0.01)
    return sees_colour(request)
cli.open_model = lambda *arguments, **options: FakeModel(slowly)
print("here", flush=True)
sys.exit(cli.main(sys.argv[1:]))
"""


def start(task: Path, out: Path) -> "subprocess.Popen[bytes]":
    paths = os.pathsep.join([str(ROOT), str(ROOT / "eval")])
    command = [sys.executable, "-c", COMMAND, "some/model", "--tasks", str(task), "--output", str(out)]
    command += ["--batch-size", "4", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(task: Path, out: Path) -> None:
    with start(task, out) as process:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told.decode()


@pytest.mark.slow
def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    task, draw, deaths = small_task(tmp_path, 120), random.Random(0), 0
    finish(task, tmp_path / "alone")
    for number in range(10):
        together = [start(task, tmp_path / "out") for _ in range(1 + number % 2)]
        for process in together:
            assert process.stdout is not None
            assert process.stdout.readline() == b"here\n"
        time.sleep(draw.uniform(0.0, 0.3))
        for process in together:
            process.kill()
            deaths += process.wait() == -signal.SIGKILL
            process.communicate()
    assert deaths >= 3  # the others had nothing left to do
    finish(task, tmp_path / "out")
    alone, killed = tmp_path / "alone", tmp_path / "out"
    assert {path.name for path in killed.iterdir() if ".result.json." not in path.name} == {
        path.name for path in alone.iterdir()
    }
    assert (killed / "small.answers.jsonl").read_bytes() == (alone / "small.answers.jsonl").read_bytes()
    assert without_speed(killed / "small.result.json") == without_speed(alone / "small.result.json")
