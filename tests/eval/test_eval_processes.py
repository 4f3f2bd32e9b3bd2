"""``--processes``: the files of one process alone, and a helper that fails ends the command with its message."""

import subprocess
import sys
from pathlib import Path

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm_eval.processes import Helpers, helpers
from tests.eval.fakes import without_speed, write_rows, write_task


@pytest.mark.slow
def test_two_processes_end_with_the_files_of_one(tmp_path: Path, language_model: Path) -> None:
    write_rows(tmp_path, [{"question": "?" * n, "answer": "a"} for n in range(1, 8)])
    write_task(tmp_path)
    for number in (1, 2):
        command = [
            sys.executable,
            "-m",
            "taid_vlm_eval",
            str(language_model),
            "--tasks",
            "small.yaml",
            "--device",
            "cpu",
        ]
        command += ["--batch-size", "2", "--processes", str(number), "--output", f"by-{number}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    one, two = tmp_path / "by-1", tmp_path / "by-2"
    assert {path.name for path in two.iterdir()} == {"small.answers.jsonl", "small.result.json"}
    assert (one / "small.answers.jsonl").read_bytes() == (two / "small.answers.jsonl").read_bytes()
    assert without_speed(one / "small.result.json") == without_speed(two / "small.result.json")


def test_what_a_helper_ends_with_is_told(tmp_path: Path) -> None:
    settings = {"model": "nowhere", "tasks": ["no_such_task"], "output": tmp_path}
    beside = Helpers(settings, 1)
    beside.end(60.0)
    with pytest.raises(UserError, match="a process beside this one stopped: unknown task 'no_such_task'"):
        beside.check()


def test_there_must_be_a_process() -> None:
    with pytest.raises(UserError, match="processes is 0, expected 1 or more"), helpers({}, 0):
        pass
