"""Suites, tasks that cannot be run, and own folders of tasks, as the commands tell them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from taid_vlm.cli import app
from taid_vlm.common.errors import UserError
from taid_vlm_eval import cli
from taid_vlm_eval.cli import main
from taid_vlm_eval.runner import evaluate
from taid_vlm_eval.suites import SUITES, suite_tasks
from taid_vlm_eval.task_files import list_tasks
from tests.eval.fakes import FakeModel, sees_colour, small_task, write_rows, write_task


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeModel:
    """Every model is this one, in a working folder with three tasks: one to run, one without a scorer, one without data."""
    model = FakeModel(sees_colour)
    monkeypatch.setattr(cli, "open_model", lambda *args, **options: model)
    monkeypatch.chdir(tmp_path)
    small_task(tmp_path)
    write_task(tmp_path, name="judged", scorer="none", metric="none")
    write_task(tmp_path, name="gone", data={"source": "jsonl", "path": "nowhere.jsonl"})
    monkeypatch.setitem(SUITES, "mine", ("judged", "small", "gone", "of_later"))
    return model


def test_the_others_go_on_and_the_status_says_so(fake: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["m", "--suite", "mine", "--tasks-folder", "."]) == 1
    out, err = capsys.readouterr()
    assert "1.0000" in out
    assert out.count("not run") == 6  # in the table, and with the reason
    assert "judged: not run: task 'judged' has no scorer: only a judge" in out
    assert "gone: not run: task 'gone': no data at" in out
    assert "of_later: not run: no task 'of_later' here" in out
    assert err == "error: not run: of_later, judged, gone; the results of the other tasks are complete\n"


def test_json_names_what_was_not_run(fake: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["m", "--tasks", "small,judged", "--tasks-folder", ".", "--json"]) == 1
    done, judged = json.loads(capsys.readouterr().out)
    assert (done["task"], done["value"]) == ("small", 1.0)
    assert judged["task"] == "judged"
    assert "has no scorer" in judged["not_run"]


def test_data_that_turn_out_broken_do_not_stop_the_others(
    fake: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path, [{"question": 1}], "broken.jsonl")
    broken = write_task(tmp_path, name="broken", data={"source": "jsonl", "path": "broken.jsonl"})
    assert main(["m", "--tasks", f"{broken},small.yaml"]) == 1
    out, err = capsys.readouterr()
    assert "broken: not run:" in out
    assert "question is 1, expected text" in out
    assert "1.0000" in out
    assert err.startswith("error: not run: broken;")


def test_nothing_to_run_is_told_before_a_model_is_loaded(
    fake: FakeModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "open_model", lambda *args, **options: pytest.fail("loaded"))
    assert main(["m", "--tasks", "judged,gone", "--tasks-folder", "."]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "only a judge" in err
    assert "no data at" in err


def test_from_python_the_first_that_cannot_be_run_is_an_error(fake: FakeModel, tmp_path: Path) -> None:
    tasks = ["small.yaml", "gone.yaml"]
    with pytest.raises(UserError, match="no data at"):
        evaluate(fake, tasks, output_dir=tmp_path / "out")
    reasons: dict[str, str] = {}
    (result,) = evaluate(fake, tasks, output_dir=tmp_path / "out", not_run=reasons)
    assert result.task == "small"
    assert list(reasons) == ["gone"]


def test_tasks_and_suite_together_run_each_task_once(fake: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "mine", ("small",))
    results = cli.run("m", ["small"], suite="mine", tasks_folders=["."])
    assert [one.task for one in results] == ["small"]


def test_unknown_suites_are_told() -> None:
    with pytest.raises(UserError, match="unknown suite 'openvml': did you mean 'openvlm'"):
        suite_tasks("openvml")


def test_the_tasks_of_suites_exist() -> None:
    assert {name for names in SUITES.values() for name in names} <= set(list_tasks())


def test_the_suites_are_there() -> None:
    assert set(SUITES) >= {"openvlm", "vqa", "hallucination", "documents", "captions", "language", "smoke"}
    assert len(SUITES["openvlm"]) == 8
    for names in SUITES.values():
        assert len(set(names)) == len(names)


def test_the_main_command_knows_suites_folders_and_compare(fake: FakeModel, tmp_path: Path) -> None:
    for name, model in (("a", FakeModel(sees_colour, name="a")), ("b", FakeModel(name="b"))):
        fake.rule, fake.name = model.rule, name
        done = CliRunner().invoke(app, ["eval", "m", "--tasks", "small", "--tasks-folder", ".", "--output", name])
        assert done.exit_code == 0, (done.output, done.exception)
    done = CliRunner().invoke(app, ["compare", "a", "b", "--tasks-folder", ".", "--html", "page.html", "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert json.loads(done.output)[0]["first_better"] == 5
    assert "<img" in (tmp_path / "page.html").read_text()
    done = CliRunner().invoke(app, ["eval", "m", "--suite", "mine", "--tasks-folder", "."])
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith("not run: ")


@pytest.mark.parametrize("start", [main, lambda argv: CliRunner().invoke(app, ["eval", *argv]).exit_code])
def test_offline_forbids_fetching(fake: FakeModel, monkeypatch: pytest.MonkeyPatch, start: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert start(["m", "--tasks", "small.yaml"]) == 0
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert start(["m", "--tasks", "small.yaml", "--offline"]) == 0
    assert os.environ["HF_HUB_OFFLINE"] == "1"
