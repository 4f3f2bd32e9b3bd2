"""The command: what it prints, where it writes, and a mistake as one line with status 1."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from taid_vlm_eval import cli
from taid_vlm_eval.cli import main
from tests.eval.fakes import FakeModel, small_task, write_rows, write_task


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeModel:
    """Every model is this one, in an empty working folder."""
    model = FakeModel()
    monkeypatch.setattr(cli, "open_model", lambda *args, **options: model)
    monkeypatch.chdir(tmp_path)
    return model


def test_the_table_states_figure_interval_and_errors(
    fake: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = small_task(tmp_path)
    (tmp_path / "4.png").write_bytes(b"")
    assert main(["some/model", "--tasks", str(task)]) == 0
    out, err = capsys.readouterr()
    result = json.loads((tmp_path / "evaluation" / "some--model" / "small.result.json").read_text())
    for text in ("small", "accuracy", f"{result['value']:.4f}", f"{result['low']:.4f}", f"{result['high']:.4f}", "10"):
        assert text in out
    assert "image 4.png is unreadable" in out
    assert "answers and results: evaluation/some--model" in out
    assert err == ""


def test_a_narrow_terminal_cuts_no_figure(
    fake: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    small_task(tmp_path)
    task = write_task(tmp_path, name="a_task_with_a_rather_long_name")
    assert main(["m", "--tasks", str(task)]) == 0
    out = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in out
    assert "0.5000" in out


def test_json_is_all_of_standard_output(fake: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = small_task(tmp_path)
    second = write_task(tmp_path, name="second")
    argv = ["m", "--tasks", f"{task}, {second},", "--json", "--output", "here", "--limit", "4", "--batch-size", "2"]
    assert main(argv) == 0
    results = json.loads(capsys.readouterr().out)
    assert [(one["task"], one["n"], one["limit"]) for one in results] == [("small", 4, 4), ("second", 4, 4)]
    assert results[0] == json.loads((tmp_path / "here" / "small.result.json").read_text())
    assert fake.tried == [2, 2, 2, 2]


def test_answers_of_other_settings_are_told_on_standard_error(
    fake: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = small_task(tmp_path)
    assert main(["m", "--tasks", str(task), "--limit", "4"]) == 0
    assert main(["m", "--tasks", str(task), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "was made with another data_fingerprint, limit; it is now small.answers.jsonl.old" in err
    assert "was made" not in out


def test_students_of_two_runs_do_not_share_a_folder(fake: FakeModel, tmp_path: Path) -> None:
    task = small_task(tmp_path)
    for run in ("sft", "taid"):
        (tmp_path / "runs" / run / "student").mkdir(parents=True)
        fake.name = run
        assert main([f"runs/{run}/student", "--tasks", str(task)]) == 0
    names = [path.name for path in sorted((tmp_path / "evaluation").iterdir())]
    assert names == ["sft--student", "taid--student"]
    assert not list((tmp_path / "evaluation").rglob("*.old"))


def test_tasks_of_own_folders(fake: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_task(tmp_path)
    assert main(["--list-tasks", "--tasks-folder", "."]) == 0
    assert {"chatterbot", "easy_vqa", "small"} <= set(capsys.readouterr().out.split())
    assert main(["m", "--tasks", "small", "--tasks-folder", "."]) == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no model is named"),
        (["m"], "no task is named: --tasks or --suite does"),
        (["m", "--tasks", ","], "no task is named"),
        (["m", "--tasks", "hallucinations"], "unknown task 'hallucinations': did you mean 'hallucination'"),
        (["m", "--tasks", "easy_vqua"], "unknown task 'easy_vqua': did you mean 'easy_vqa'"),
        (["m", "--tasks", "easy_vqa,easy_vqa"], "each only once"),
        (["m", "--tasks", "easy_vqa", "--limit", "0"], "limit is 0"),
        (["m", "--tasks", "easy_vqa", "--batch-size", "-1"], "batch_size is -1"),
        (["./gone/for/good", "--tasks", "easy_vqa"], "no folder at ./gone/for/good"),
        (["m", "--tasks", "easy_vqa", "--adapter", "stock"], "unknown model adapter 'stock'"),
        (["--list-tasks", "--tasks-folder", "gone"], "no folder of tasks at gone"),
    ],
)
def test_a_mistake_is_one_line_and_status_1(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_mistake_that_needs_no_model_is_told_before_one_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loads(*args: object, **options: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(cli, "open_model", loads)
    for more in (["--limit", "0"], ["--batch-size", "0"], ["--tasks", "easy_vqua"], ["--tasks", "easy_vqa,easy_vqa"]):
        assert main(["m", "--tasks", "easy_vqa", *more]) == 1


def test_an_output_that_is_a_file_is_told(fake: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = small_task(tmp_path)
    assert main(["m", "--tasks", str(task), "--output", str(task)]) == 1
    assert "small.yaml is a file; answers and results need a folder" in capsys.readouterr().err


def test_stopped_by_hand(fake: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(request: object) -> str:
        raise KeyboardInterrupt

    fake.rule = stop
    assert main(["m", "--tasks", str(small_task(tmp_path))]) == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"


def test_unknown_options_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--batchsize", "3"]) == 2
    assert "--batch-size" in capsys.readouterr().err
    assert main(["--limit", "many"]) == 2
    assert "--limit" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "Usage: python -m taid_vlm_eval" in capsys.readouterr().out


def test_the_module_as_a_user_starts_it(tmp_path: Path, language_model: Path) -> None:
    write_rows(tmp_path, [{"question": f"{n}?", "answer": "a"} for n in range(3)])
    write_task(tmp_path)
    command = [sys.executable, "-m", "taid_vlm_eval", str(language_model), "--tasks", "small.yaml", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    assert (result["n"], result["model"]["adapter"]) == (3, "transformers")
    assert "Traceback" not in done.stderr


def test_named_figures_follow_their_task(
    fake: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path, [{"question": "?", "answer": "yes"}, {"question": "??", "answer": "no"}])
    task = write_task(tmp_path, scorer="yes_no", metric="hallusion_bench")
    fake.rule = lambda request: {"?": "<think>no</think>Yes.", "??": "perhaps"}[request.prompt]
    assert main(["m", "--tasks", str(task)]) == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    first, *named = [row for row in rows if row]
    assert first[:3] == ["small", "yes_no", "hallusion_bench"]
    assert first[5] == "50.0%"
    assert {row[2]: row[3].split()[0] for row in named}["aAcc"] == "0.5000"
    assert {row[2] for row in named} == {"aAcc", "fAcc", "qAcc", "mean"}


def test_points_are_told_as_points(fake: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, [{"question": "?", "answer": "yes"}])
    fake.rule = lambda request: "yes"
    assert main(["m", "--tasks", str(write_task(tmp_path, scorer="yes_no", metric="mme", mode="mme"))]) == 0
    out = capsys.readouterr().out
    assert "yes_no mme" in out
    assert "200.0 (" in out


def test_answers_without_a_score_are_listed(
    fake: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path, [{"question": "?", "answer": ""}])
    task = write_task(tmp_path, asks="turns", scorer="none", metric="mt_bench")
    assert main(["m", "--tasks", str(task), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert [cell.strip() for cell in out.splitlines()[3].split("│")[1:5]] == ["small", "", "", "answers only"]
    assert "small: answers only: its score needs a judge" in out
    assert main(["m", "--tasks", str(task), "--quiet", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["task"] == "small"
    assert "judge" in row["answers_only"]
