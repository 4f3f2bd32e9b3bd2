"""A study that is stopped, by itself and beside another process, goes on where it was."""

import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common.stopping import RESUMABLE, TERMINATED
from taid_vlm.recipe import dump_recipe
from taid_vlm.study.records import Records
from tests.cli.small_study import KEYS, make_small
from tests.cli.stopped_programs import CHECKPOINT, KEPT, STEP, TRAINING, assert_gone, contents, run, stop
from tests.tiny.recipes import distil

pytestmark = pytest.mark.slow


@pytest.fixture
def study_recipe(tmp_path: Path, language_model: Path, easy_vqa: Path, student: Path) -> None:
    recipe = distil(language_model, easy_vqa, student, loss={"name": "kl"}, training=TRAINING)
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))


SMALL_STUDY = "from tests.cli.small_study import make_small\nmake_small(setattr)"
IN = ["--results", "results", "--out"]


def records(out: Path) -> dict[str, dict[str, Any]]:
    """Of all runs, but for their time and what ran them."""
    assert not [file for file in contents(out / "records") if Path(file).name.startswith(".")]
    found = {key: asdict(one) for key, one in Records(out).all.items() if one.is_run}
    apart = ("seconds", "hardware")
    return {key: {name: value for name, value in one.items() if name not in apart} for key, one in found.items()}


@pytest.mark.usefixtures("study_recipe")
def test_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["study", "run", *IN, "cut"]
    stopped = stop(tmp_path, signal.SIGINT, STEP, command, pieces=5, before=SMALL_STUDY)
    assert stopped.status == RESUMABLE
    assert stopped.errors.endswith(CHECKPOINT.format("SIGINT", 2, 4, " ".join(command)))
    assert list(records(tmp_path / "cut")) == [KEYS[0]]
    place = "taid_vlm.study.bench:Bench.examine"
    stopped = stop(tmp_path, signal.SIGTERM, place, command, before=SMALL_STUDY)
    assert stopped.status == TERMINATED
    assert stopped.errors.endswith(KEPT.format(" ".join(command)))
    monkeypatch.chdir(tmp_path)
    make_small(monkeypatch.setattr)
    run(*command)
    run("study", "run", *IN, "whole")
    assert sorted(records(tmp_path / "cut")) == sorted(KEYS)
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    assert os.listdir(tmp_path / "cut" / "running") == []


@pytest.mark.usefixtures("study_recipe")
def test_a_study_of_two_processes_ends_both(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text(
        f"import sys\n{SMALL_STUDY}\nfrom taid_vlm.cli import main\nsys.argv[0] = 'taid-vlm'\nmain()\n"
    )
    (tmp_path / "python").write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} beside.py "$@"\n')
    (tmp_path / "python").chmod(0o755)
    command = ["study", "run", "--jobs", "2", *IN, "out"]
    before = f"{SMALL_STUDY}\nsys.executable = {str(tmp_path / 'python')!r}"
    # The first waits in its run; the one beside it finishes the other one, and waits for the first.
    finished = tmp_path / "out" / "records" / "small"
    stopped = stop(
        tmp_path, signal.SIGINT, STEP, command, before=before, ready=lambda: bool(list(finished.rglob("*.json")))
    )
    assert stopped.status == RESUMABLE
    assert stopped.errors.endswith(CHECKPOINT.format("SIGINT", 1, 4, " ".join(command)))
    assert stopped.children
    assert_gone(stopped.children)
    assert len(records(tmp_path / "out")) == 1
