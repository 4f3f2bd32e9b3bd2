"""Processes started by hand with batches of unlike sizes: no question is asked twice, and the files are those of one process."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from taid_vlm_eval.runner import evaluate
from tests.eval.asking_worker import Notes
from tests.eval.test_eval_sharing import ITEMS, files, many_questions

ROOT = Path(__file__).parents[2]
Process = tuple[int, int | None]


def asked(folder: Path, rounds: list[list[Process]]) -> Counter[str]:
    """How often each question was asked; the files at the end are checked."""
    task, notes = many_questions(folder), folder / "notes"
    command = [sys.executable, "-m", "tests.eval.asking_worker", str(task), str(folder / "out"), str(notes)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "eval")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        [*command, json.dumps(rounds)], cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    evaluate(Notes(folder / "notes of one", None), [task], output_dir=folder / "alone", batch_size=16)
    assert files(folder / "out") == files(folder / "alone")
    found = Counter(notes.read_text().splitlines())
    assert len(found) == ITEMS
    return found


@pytest.mark.parametrize("sizes", [(3, 5, 8), (1, 7), (32, 4, 4)])
def test_no_question_is_asked_twice(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    assert set(asked(tmp_path, [[(size, None) for size in sizes]]).values()) == {1}


def test_a_larger_batch_after_a_kill_asks_only_what_has_no_answer(tmp_path: Path) -> None:
    times = asked(tmp_path, [[(3, 5)], [(32, 2)], [(8, None)]])
    assert sum(times.values()) <= ITEMS + 3 + 32  # the two batches that died while they were asked
    assert max(times.values()) <= 3


def test_the_living_take_what_a_dead_one_of_another_size_had(tmp_path: Path) -> None:
    times = asked(tmp_path, [[(8, 2), (3, None), (5, None)]])
    assert sum(times.values()) <= ITEMS + 8
