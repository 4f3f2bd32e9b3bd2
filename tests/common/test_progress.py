"""Bars are drawn on terminals alone, and what is printed below them stays on its own stream; elsewhere a line now and then."""

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taid_vlm.common.progress import bar, plain_lines, waiting
from tests.terminal import read_terminal

ROOT = Path(__file__).parents[2]
PROGRAM = """
import time
from taid_vlm.common.progress import bar, waiting
with bar("samples") as progress:
    for done in range(1, 4):
        progress(done, 3)
        time.sleep(0.15)
    with waiting("the teacher"):
        print("a result", flush=True)
        time.sleep(0.3)
"""


def on_terminal(out_too: bool, **environment: str) -> tuple[str, str]:
    """What comes to a terminal on standard error, and to standard output where that is a pipe."""
    ours, theirs = pty.openpty()
    out = theirs if out_too else subprocess.PIPE
    given = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=theirs, stdout=out, stderr=theirs, env=given)
    os.close(theirs)
    drawn = read_terminal(ours)
    printed, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0, drawn
    return drawn.decode(), (printed or b"").decode()


def test_on_a_terminal_bars_are_drawn_and_gone_at_the_end() -> None:
    drawn, _ = on_terminal(out_too=True)
    assert "3 of 3" in drawn
    assert "the teacher" in drawn
    assert "a result" in drawn
    assert re.search(r"\x1b\[2K(\x1b\[\?25h|\r)*$", drawn)  # the last line is erased


def test_what_is_printed_below_a_bar_goes_to_the_pipe_that_wants_it() -> None:
    drawn, printed = on_terminal(out_too=False)
    assert "samples" in drawn
    assert "a result" not in drawn
    assert printed == "a result\n"


def test_nothing_is_drawn_into_pipes() -> None:
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=given)
    assert (done.stdout, done.stderr) == ("a result\n", "")


def test_plain_lines_come_after_each_pause_alone(capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    progress = plain_lines("teacher", pause=30.0, clock=lambda: now[0])
    for second in range(91):
        now[0] = 100.0 + second
        progress(second * 100, 9000)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["teacher: 3,000 of 9,000", "teacher: 6,000 of 9,000", "teacher: 9,000 of 9,000"]


def test_of_several_processes_one_tells(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("taid_vlm.common.progress.plain_lines.__defaults__", (0.0, time.monotonic))
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with bar("samples") as progress:
            progress(1, 2)
    assert capsys.readouterr().err == "samples: 1 of 2\n"


def test_what_is_short_says_nothing_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting("the model"), bar("samples") as progress:
        progress(1, 1)
    assert capsys.readouterr() == ("", "")
