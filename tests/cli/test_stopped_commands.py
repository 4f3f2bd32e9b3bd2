"""Commands that get Ctrl-C or SIGTERM and begin anew: a status, how to go on, nothing half-written, and no process left."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common.stopping import INTERRUPTED, TERMINATED
from taid_vlm.training import train
from taid_vlm_eval.runner import evaluate
from tests.cli.stopped_programs import KEPT, LOST, assert_gone, contents, run, stop
from tests.eval.fakes import FakeModel, sees_colour, small_task, write_rows, write_task
from tests.tiny.internvl2 import save_original
from tests.tiny.recipes import tiny_recipe

pytestmark = pytest.mark.slow
BOTH = [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)]


def test_training_that_is_still_loading(tmp_path: Path, recipe: Path) -> None:
    stopped = stop(tmp_path, signal.SIGTERM, "taid_vlm.training.setup:build_student", ["train", "r.yaml"])
    assert stopped.status == TERMINATED
    assert stopped.errors.endswith(KEPT.format("train r.yaml"))


@pytest.mark.parametrize(("number", "status"), BOTH)
def test_an_export_leaves_nothing_and_ends_the_process_that_reloads_it(
    tmp_path: Path, student: Path, number: int, status: int
) -> None:
    place = "taid_vlm.export.gate:FreshProcess.ask"
    stopped = stop(tmp_path, number, place, ["export", str(student), "exported", "--to", "custom"])
    assert stopped.status == status
    assert stopped.errors.endswith(LOST)
    assert len(stopped.children) == 1
    assert_gone(stopped.children)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("form", "place", "pieces", "number", "status"),
    [
        ("internvl2", "taid_vlm.models.native.internvl2.convert:_generation", 0, *BOTH[0]),
        ("student", "taid_vlm.models.native.parts:write_weights", 1, *BOTH[1]),
    ],
)
def test_a_conversion_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, place: str, pieces: int, number: int, status: int
) -> None:
    save_original(tmp_path / "original")
    stopped = stop(tmp_path, number, place, ["convert", form, "original", "made"], pieces)
    assert stopped.status == status
    assert stopped.errors.endswith(LOST)
    assert set(os.listdir(tmp_path)) <= {"original", "cache"}
    assert not list(tmp_path.glob("cache/**/.*new-*"))
    monkeypatch.chdir(tmp_path)
    run("convert", form, "original", "made")
    run("convert", form, "original", "whole")
    assert contents(tmp_path / "made") == contents(tmp_path / "whole")


def test_a_comparison_leaves_no_half_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_task(tmp_path)
    for name, rule in (("a", sees_colour), ("b", lambda request: "red")):
        evaluate(FakeModel(rule, name=name), [tmp_path / "small.yaml"], output_dir=tmp_path / name)
    before, arguments = set(os.listdir(tmp_path)), ["compare", "a", "b", "--tasks-folder", ".", "--html"]
    # The page is written under another name, which is about to become its own.
    stopped = stop(tmp_path, signal.SIGINT, "taid_vlm.common.files:os.replace", [*arguments, "page.html"])
    assert stopped.status == INTERRUPTED
    assert stopped.errors.endswith(LOST)
    assert set(os.listdir(tmp_path)) == before
    monkeypatch.chdir(tmp_path)
    told = run(*arguments, "page.html")
    assert run(*arguments, "whole.html") == told.replace("page.html", "whole.html")
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "whole.html").read_bytes()


def test_a_report_that_asks_keeps_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language_model: Path, easy_vqa: Path
) -> None:
    write_rows(tmp_path, [{"question": "?" * n, "answer": "a"} for n in (1, 2, 3)])
    asked: dict[str, Any] = {"tasks": [str(write_task(tmp_path))], "batch_size": 1}
    training = {"steps": 1, "batch_size": 4, "lr": 5e-3, "precision": "fp32", "trackers": []}
    train(tiny_recipe(language_model, easy_vqa, training=training, evaluation=asked), tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    place = "taid_vlm_eval.models.student:StudentModel.answer"
    stopped = stop(tmp_path, signal.SIGTERM, place, ["report", "run", "--ask", "3"], pieces=1)
    assert stopped.status == TERMINATED
    assert stopped.errors.endswith(KEPT.format("report run --ask 3"))
    assert not (tmp_path / "run" / "report.html").exists()
    answers = Path("examples") / "before" / "small.answers.jsonl"
    kept = (tmp_path / "run" / answers).read_bytes()
    monkeypatch.chdir(tmp_path)
    run("report", "run", "--ask", "3")
    run("report", "whole", "--ask", "3")
    assert 0 < len(kept) < len((tmp_path / "whole" / answers).read_bytes())
    for name in (str(answers), "examples/examples.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert contents(tmp_path / "run").keys() == contents(tmp_path / "whole").keys()
