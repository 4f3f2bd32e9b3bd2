"""Killed at any step of putting the answers in order, the next start ends with the file of one that was not."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from taid_vlm_eval.answers import line_of
from taid_vlm_eval.answers_file import AnswersFile
from tests.eval.test_eval_answers import ANSWERS, HEADER, IDS

STEPS_OF = ("answers_file.py", "answers_index.py", "answers_opening.py", "answers.py", "locks.py")


def close_and_die(path: Path, step: int) -> int:
    """In a child: fill the file out of order and die at a step of :meth:`AnswersFile.close`; how the child ended."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status, steps = 1, 0

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        if Path(frame.f_code.co_filename).name not in STEPS_OF:
            return None
        if event == "line":
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
        return count

    try:
        file = AnswersFile(path, HEADER, IDS)
        file.append(ANSWERS[::-1])
        sys.settrace(count)
        file.close()
        status = 0
    finally:
        os._exit(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_step_the_next_start_finishes(tmp_path: Path) -> None:
    with AnswersFile(tmp_path / "alone" / "x.jsonl", HEADER, IDS) as file:
        file.append(ANSWERS)
    expected = (tmp_path / "alone" / "x.jsonl").read_bytes()
    assert expected.splitlines(keepends=True)[1:] == [line_of(one) for one in ANSWERS]
    step, ends = 0, []
    while not ends or ends[-1] != 0:
        step += 1
        path = tmp_path / str(step) / "x.jsonl"
        ends.append(close_and_die(path, step))
        with AnswersFile(path, HEADER, IDS) as file:  # the next start
            assert not file.set_aside
            assert not file.lacking.any()
        assert path.read_bytes() == expected, step
        assert [one.name for one in path.parent.iterdir()] == ["x.jsonl"], step
    assert set(ends[:-1]) == {-signal.SIGKILL}
    assert step > 40
