"""Processes that share the work: killed however often, and however many they are, they end with the files of one alone."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import without_speed, write_rows, write_task
from tests.eval.sharing_worker import BATCH, DEATHS, KnowsItsBatch

ROOT = Path(__file__).parents[2]
ITEMS = 161
Death = tuple[str, int] | None


def many_questions(folder: Path) -> Path:
    write_rows(
        folder, [{"id": f"q{n}", "question": f"{n}" + "?" * (n * 37 % 200), "answer": str(n)} for n in range(ITEMS)]
    )
    return write_task(folder)


def share(task: Path, out: Path, rounds: list[list[Death]]) -> list[list[int]]:
    command = [sys.executable, "-m", "tests.eval.sharing_worker", str(task), str(out), json.dumps(rounds)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "eval")])
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": paths}
    )
    assert done.returncode == 0, done.stderr
    ends: list[list[int]] = json.loads(done.stdout)
    return ends


def files(folder: Path) -> dict[str, Any]:
    """Everything in a folder, but for the speed, and what dying in the middle of the result leaves."""
    found: dict[str, Any] = {
        path.name: path.read_bytes() for path in folder.iterdir() if ".result.json." not in path.name
    }
    found["small.result.json"] = without_speed(folder / "small.result.json")
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A task, and the files of one process that nothing disturbs."""
    folder = tmp_path_factory.mktemp("alone")
    task = many_questions(folder)
    model = KnowsItsBatch()
    evaluate(model, [task], output_dir=folder / "out", batch_size=BATCH, workers=0)
    assert model.tried == [BATCH] * (ITEMS // BATCH) + [ITEMS % BATCH]
    assert set(files(folder / "out")) == {"small.answers.jsonl", "small.result.json"}
    return task, files(folder / "out")


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_number_of_processes_does_not_matter(
    alone: tuple[Path, dict[str, Any]], tmp_path: Path, processes: int
) -> None:
    task, expected = alone
    assert share(task, tmp_path / "out", [[None] * processes]) == [[0] * processes]
    assert files(tmp_path / "out") == expected


@pytest.mark.parametrize("seed", range(4))
def test_killed_ten_times_on_changing_numbers_of_processes(
    alone: tuple[Path, dict[str, Any]], tmp_path: Path, seed: int
) -> None:
    task, expected = alone
    draw = random.Random(seed)
    early, late = [one.__name__ for one in DEATHS[:-1]], DEATHS[-1].__name__
    rounds: list[list[Death]] = [
        [(draw.choice(early), draw.randint(1, 2)) for _ in range(draw.choice([1, 2, 4]))] for _ in range(10)
    ]
    ends = share(task, tmp_path / "out", [*rounds, [(late, 1)], [(late, 2)], [None, None]])
    assert {end for ends_of_round in ends[:10] for end in ends_of_round} == {-signal.SIGKILL}
    assert ends[-1] == [0, 0]
    assert files(tmp_path / "out") == expected


@pytest.mark.parametrize("death", [one.__name__ for one in DEATHS])
def test_the_living_go_on_with_what_the_dead_had_taken(
    alone: tuple[Path, dict[str, Any]], tmp_path: Path, death: str
) -> None:
    task, expected = alone
    rounds: list[list[Death]] = [[(death, 1), None, (death, 2)]]
    if death == DEATHS[-1].__name__:
        rounds.append([None])  # who is left may have gone before the last one died, which was to put the lines in order
    ends = share(task, tmp_path / "out", rounds)
    assert ends[0][1] == 0
    assert -signal.SIGKILL in ends[0]
    assert files(tmp_path / "out") == expected
