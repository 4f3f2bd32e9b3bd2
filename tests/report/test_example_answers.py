"""Everybody's answers to a few questions of a run, kept beside it."""

import json
from pathlib import Path

import yaml

import taid_vlm_eval
from taid_vlm.example_answers import ask_examples
from taid_vlm.report.page import page
from taid_vlm.report.run_files import read_run
from taid_vlm.run import train_and_evaluate
from tests.tiny.recipes import tiny_recipe

TASKS = Path(taid_vlm_eval.__file__).parent / "tasks"


def test_training_keeps_the_students_answers_and_asking_adds_those_before_it(
    tmp_path: Path, language_model: Path, easy_vqa: Path
) -> None:
    task = yaml.safe_load((TASKS / "easy_vqa.yaml").read_text()) | {"name": "colours"}
    task["data"]["path"] = str(easy_vqa)
    (tmp_path / "colours.yaml").write_text(yaml.safe_dump(task))
    training = {"steps": 2, "batch_size": 4, "lr": 5e-3, "precision": "fp32", "trackers": []}
    evaluation = {"tasks": [str(tmp_path / "colours.yaml")], "limit": 3}
    run_dir = tmp_path / "run"
    recipe = tiny_recipe(language_model, easy_vqa, training=training, evaluation=evaluation)
    train_and_evaluate(recipe, run_dir)
    answered = (run_dir / "evaluation" / "colours.answers.jsonl").read_text().splitlines()[1:]
    after = {row["id"]: row["answer"] for row in map(json.loads, answered)}
    kept = json.loads((run_dir / "examples" / "examples.json").read_text())["items"]
    assert {item["id"]: item["answers"]["after"]["text"] for item in kept} == after
    weights = (run_dir / "student" / "model.safetensors").read_bytes()
    ask_examples(run_dir, 2)
    run = read_run(run_dir)
    assert [set(item["answers"]) >= {"before", "after"} for item in run.examples["items"]] == [True, True]
    assert (run_dir / "student" / "model.safetensors").read_bytes() == weights
    assert [row["memory_bytes"] > 0 for row in run.timing] == [True, True]
    assert any("projector" in line for line in run.trained)
    assert page([run]).count("<img ") == 2
