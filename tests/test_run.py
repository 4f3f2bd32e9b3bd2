"""A trained student is measured on the recipe's tasks: once, beside its run, and a mistake in them costs no training."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import taid_vlm_eval
from taid_vlm.common.errors import UserError
from taid_vlm.recipe import Recipe, dump_recipe, load_recipe
from taid_vlm.run import train_and_evaluate
from tests.tiny.recipes import tiny_recipe

TASKS = Path(taid_vlm_eval.__file__).parent / "tasks"
TRAINING = {"steps": 4, "batch_size": 4, "lr": 5e-3, "checkpoint_every": 2, "precision": "fp32", "trackers": []}


@pytest.fixture
def recipe(tmp_path: Path, language_model: Path, easy_vqa: Path) -> Recipe:
    """Asks for six of the eight held-out questions, by a task of the user's own."""
    task = yaml.safe_load((TASKS / "easy_vqa.yaml").read_text()) | {"name": "colours"}
    task["data"]["path"] = str(easy_vqa)
    (tmp_path / "colours.yaml").write_text(yaml.safe_dump(task))
    evaluation = {"tasks": [str(tmp_path / "colours.yaml")], "limit": 6}
    return tiny_recipe(language_model, easy_vqa, training=TRAINING, evaluation=evaluation)


def result(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "evaluation" / "colours.result.json").read_text())


def test_the_scores_are_printed_and_written_beside_the_run(
    tmp_path: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    student = train_and_evaluate(recipe, tmp_path / "run")
    assert student == tmp_path / "run" / "student"
    found = result(tmp_path / "run")
    assert (found["task"], found["n"], found["limit"], found["metric"]) == ("colours", 6, 6, "accuracy")
    assert f"{found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f})" in capsys.readouterr().out


def test_a_run_stopped_before_its_evaluation_is_evaluated_by_the_same_command(tmp_path: Path, recipe: Recipe) -> None:
    train_and_evaluate(recipe, tmp_path / "run")
    whole = result(tmp_path / "run")
    weights = tmp_path / "run" / "student" / "model.safetensors"
    stamp = weights.stat().st_mtime_ns
    for file in (tmp_path / "run" / "evaluation").iterdir():
        file.unlink()
    train_and_evaluate(recipe, tmp_path / "run")
    assert result(tmp_path / "run")["value"] == whole["value"]
    assert weights.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("tasks", "message"),
    [(["easy_vqua"], "did you mean 'easy_vqa'"), (["easy_vqa", "easy_vqa"], "each only once")],
)
def test_a_mistake_in_the_tasks_is_told_before_training(
    tmp_path: Path, recipe: Recipe, tasks: list[str], message: str
) -> None:
    wrong = Recipe.model_validate({**recipe.model_dump(), "evaluation": {"tasks": tasks}})
    with pytest.raises(UserError, match=message):
        train_and_evaluate(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_the_evaluation_package_it_trains_and_says_so(
    tmp_path: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "taid_vlm_eval", None)
    student = train_and_evaluate(recipe, tmp_path / "run")
    assert (student / "student.json").is_file()
    assert "taid_vlm_eval is not installed" in capsys.readouterr().out


def test_the_language_recipe_is_measured() -> None:
    assert load_recipe("quickstart/language").evaluation.tasks == ["chatterbot"]


@pytest.mark.slow
def test_of_two_processes_one_evaluates(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "two.yaml").write_text(dump_recipe(recipe))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = [*launcher, "taid_vlm", "train", "two.yaml", "--output", "two"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert result(tmp_path / "two")["n"] == 6
    lines = (tmp_path / "two" / "evaluation" / "colours.answers.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 6
    assert done.stdout.count("colours") == 1
