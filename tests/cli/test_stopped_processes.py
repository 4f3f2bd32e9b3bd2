"""Evaluations by two processes that get Ctrl-C or SIGTERM: both end, what was answered is kept, and the same command goes on."""

import signal
from pathlib import Path

import pytest

from taid_vlm.common.stopping import INTERRUPTED
from tests.cli.stopped_programs import KEPT, ask, assert_gone, children_of, evaluated, expect, run, started, stop
from tests.eval.fakes import write_rows, write_task

pytestmark = pytest.mark.slow


@pytest.fixture
def shared_task(tmp_path: Path, language_model: Path) -> list[str]:
    """An evaluation by two processes, without its ``--output``."""
    write_rows(tmp_path, [{"question": "?" * n, "answer": "a"} for n in range(1, 9)])
    write_task(tmp_path)
    arguments = ["eval", str(language_model), "--tasks", "small.yaml", "--batch-size", "1"]
    return [*arguments, "--device", "cpu", "--processes", "2", "--output"]


STOCK_ANSWERS = "taid_vlm_eval.models.stock:StockModel.answer"


def test_an_evaluation_by_two_processes_ends_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_task: list[str]
) -> None:
    file, command = tmp_path / "cut" / "small.answers.jsonl", [*shared_task, "cut"]
    # The first waits; the other one answers.
    stopped = stop(tmp_path, signal.SIGINT, STOCK_ANSWERS, command, ready=lambda: b'"answer"' in file.read_bytes())
    assert stopped.status == INTERRUPTED
    assert stopped.errors.endswith(KEPT.format(" ".join(command)))
    assert stopped.children
    assert_gone(stopped.children)
    monkeypatch.chdir(tmp_path)
    run(*command)
    one = [*shared_task[: shared_task.index("--processes")], "--output"]
    run(*one, "whole")
    assert evaluated(tmp_path / "cut") == evaluated(tmp_path / "whole")


def test_a_second_signal_ends_it_at_once_and_those_beside_it(tmp_path: Path, shared_task: list[str]) -> None:
    slow_end = (
        "import time\nfrom taid_vlm_eval.processes import Helpers\n"
        "def end(*given):\n    print('ending', file=sys.__stdout__, flush=True)\n    time.sleep(300)\n"
        "Helpers.end = end"
    )
    with started(tmp_path, STOCK_ANSWERS, [*shared_task, "cut"], before=slow_end) as process:
        children = children_of(process)
        ask(process, signal.SIGTERM)
        expect(process, "ending")
        ask(process, signal.SIGTERM)
        _, errors = process.communicate(timeout=100)
    assert process.returncode == -signal.SIGTERM
    assert "Traceback" not in errors
    assert children
    assert_gone(children)
