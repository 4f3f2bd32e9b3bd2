"""``--processes``: the files of one process alone, and a helper that fails ends the command with its message."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm_eval import cli
from taid_vlm_eval.processes import Helpers, helpers
from tests.eval.fakes import FakeModel, without_speed, write_rows, write_task


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


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> list[subprocess.Popen[bytes]]:
    """Let every helper be this shell script; returns those that will have been started."""
    path = folder / "helper"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))
    started: list[subprocess.Popen[bytes]] = []

    class Kept(subprocess.Popen):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            if len(started) == 2:
                raise OSError("no more processes")
            super().__init__(*arguments, **named)
            started.append(self)

    monkeypatch.setattr("taid_vlm_eval.processes.subprocess.Popen", Kept)
    return started


def test_helpers_end_when_a_later_one_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = stand_in(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(OSError, match="no more processes"):
        Helpers({}, 3)
    assert [process.poll() is None for process in started] == [False, False]


def test_a_helper_that_closes_its_pipe_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "exec <&-; sleep 0.3; echo 'error: no room'; exit 1")
    with pytest.raises(UserError, match="a process beside this one stopped: no room"):
        Helpers({"tasks": "x" * 1_000_000}, 1)


def test_all_helpers_have_one_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = stand_in(tmp_path, monkeypatch, "exec sleep 60")
    beside, before = Helpers({}, 2), time.monotonic()
    beside.end(2.0)
    assert 2.0 <= time.monotonic() - before < 3.8
    assert all(process.poll() is not None for process in started)


def test_what_a_helper_has_for_the_user_is_passed_on_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": "?", "answer": "red"}]
    write_rows(tmp_path, rows)
    task, model = write_task(tmp_path), FakeModel()
    monkeypatch.setattr(cli, "open_model", lambda *args, **options: model)
    cli.run("m", [task], output=tmp_path / "out", quiet=True, helps=True)
    write_rows(tmp_path, [*rows, {"question": "??", "answer": "red"}])
    capsys.readouterr()
    cli.run("m", [task], output=tmp_path / "out", quiet=True, helps=True)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    (tmp_path / "said").write_text(said)
    stand_in(tmp_path, monkeypatch, f"echo noise; cat '{tmp_path}/said'")
    beside = Helpers({}, 1)
    beside.end(60.0)
    beside.check()
    told = capsys.readouterr().err
    assert told.startswith(str(tmp_path / "out" / "small.answers.jsonl"))
    assert told.endswith("it is now small.answers.jsonl.old, and every item is asked again\n")
    assert told.count("\n") == 1
