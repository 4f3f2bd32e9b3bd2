"""The student is measured in the middle of training by the same code as at the end, and training does not notice."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

import taid_vlm_eval
from taid_vlm.common.errors import UserError
from taid_vlm.common.stopping import StoppedError
from taid_vlm.models.loaded import LoadedStudent
from taid_vlm.recipe import Recipe, dump_recipe
from taid_vlm.run import in_training, train_and_evaluate
from taid_vlm.training import loop, train
from taid_vlm.training.checkpoint import complete_checkpoints
from taid_vlm.training.evaluating import Score
from tests.tiny.recipes import distil, logged_steps, tiny_recipe
from tests.training.conftest import teacher as teacher

EASY_VQA = Path(taid_vlm_eval.__file__).parent / "tasks" / "easy_vqa.yaml"
TRAINING = {"steps": 6, "batch_size": 4, "lr": 5e-3, "checkpoint_every": 3, "precision": "fp32", "trackers": []}
# Each forward of it in training mode draws random numbers.
DROPOUT = {"mode": "lora", "lr": 2e-2, "lora": {"rank": 2, "alpha": 4, "dropout": 0.3, "targets": "all"}}


@pytest.fixture
def task(tmp_path: Path, easy_vqa: Path) -> str:
    content = yaml.safe_load(EASY_VQA.read_text()) | {"name": "colours"}
    content["data"]["path"] = str(easy_vqa)
    (tmp_path / "colours.yaml").write_text(yaml.safe_dump(content))
    return str(tmp_path / "colours.yaml")


@pytest.fixture
def dropout(language_model: Path, easy_vqa: Path, teacher: Path, task: str) -> Recipe:
    """TAID with adapters and dropout, six steps, measured after steps 2, 4 and 6 on four items."""
    content = distil(language_model, easy_vqa, teacher, cache=False, training=TRAINING).model_dump()
    content["student"]["train"]["language_model"] = DROPOUT
    content["evaluation"] = {"tasks": [task], "every": 2, "during": {"limit": 4}}
    return Recipe.model_validate(content)


def changed(recipe: Recipe, **changes: dict[str, Any]) -> Recipe:
    """Keys of parts of a recipe replaced."""
    content = recipe.model_dump()
    for part, keys in changes.items():
        content[part] |= keys
    return Recipe.model_validate(content)


def rows(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def answers(folder: Path) -> dict[str, str]:
    found = map(json.loads, (folder / "colours.answers.jsonl").read_text().splitlines())
    return {row["id"]: row["answer"] for row in found if "id" in row}


def weights(run_dir: Path, student: str = "student") -> bytes:
    return (run_dir / student / "model.safetensors").read_bytes()


class Scripted:
    """Scores by the step, and whatever else it is told to do."""

    def __init__(self, values: Mapping[int, float], does: Callable[[LoadedStudent], None] = lambda model: None) -> None:
        self.values, self.does = values, does
        self.identities: list[str] = []

    def __call__(
        self, model: LoadedStudent, identity: str, folder: Path, asked_to_stop: Callable[[], bool], *, finish: bool
    ) -> dict[str, Score] | None:
        self.identities.append(identity)
        self.does(model)
        value = self.values.get(int(identity.split()[1]), 0.5)
        return None if asked_to_stop() else {"colours": Score(value, value - 0.1, value + 0.1, 1.0)}


def test_a_measured_run_is_the_run_that_was_not(tmp_path: Path, dropout: Recipe) -> None:
    train_and_evaluate(dropout, tmp_path / "measured")
    train(changed(dropout, evaluation={"every": None, "during": {}}), tmp_path / "plain")
    assert weights(tmp_path / "measured") == weights(tmp_path / "plain")
    kept = [row for row in rows(tmp_path / "measured") if "evaluation_colours" not in row]
    assert kept == rows(tmp_path / "plain")
    assert all("t" in row for row in logged_steps(tmp_path / "plain"))  # the TAID clock is among what is compared
    measured = [row for row in rows(tmp_path / "measured") if "evaluation_colours" in row]
    assert [row["step"] for row in measured] == [2, 4, 6]
    for row in measured:
        folder = tmp_path / "measured" / "evaluation" / f"step-{row['step']:06d}"
        result = json.loads((folder / "colours.result.json").read_text())
        bounds = [result[key] for key in ("value", "low", "high")]
        assert [row[f"evaluation_colours{end}"] for end in ("", "_low", "_high")] == bounds
        assert (result["n"], result["limit"]) == (4, 4)
    assert json.loads((tmp_path / "measured" / "evaluation" / "colours.result.json").read_text())["n"] == 8


def test_the_last_one_answers_as_the_saved_student_does(
    tmp_path: Path, language_model: Path, easy_vqa: Path, task: str
) -> None:
    evaluation = {"tasks": [task], "every": 24, "ema": True}
    training = {**TRAINING, "steps": 24, "schedule": "constant", "ema": 0.99}
    recipe = tiny_recipe(language_model, easy_vqa, training=training, evaluation=evaluation)
    train_and_evaluate(recipe, tmp_path / "run")
    folder = tmp_path / "run" / "evaluation"
    for kind in (".", "ema"):
        assert answers(folder / "step-000024" / kind) == answers(folder / kind)
    assert answers(folder) != answers(folder / "ema")  # or the two would show nothing
    (row,) = (row for row in rows(tmp_path / "run") if "evaluation_colours" in row)
    assert "evaluation_ema/colours_low" in row


def test_whatever_an_evaluation_does_training_goes_on_to_the_same_bits(tmp_path: Path, dropout: Recipe) -> None:
    seen: list[bool] = []

    def meddles(model: LoadedStudent) -> None:
        seen.append(any(part.training for part in model.student.modules()) or torch.is_grad_enabled())
        random.random(), np.random.rand(3), torch.rand(3)
        torch.manual_seed(7)
        model.student.train()
        model.processor.tokenizer.padding_side = "left"

    recipe = changed(dropout, evaluation={"every": 1, "during": {}})
    train(recipe, tmp_path / "meddled", evaluate=Scripted({}, meddles))
    train(recipe, tmp_path / "plain")
    assert seen == [False] * 6
    assert weights(tmp_path / "meddled") == weights(tmp_path / "plain")
    assert logged_steps(tmp_path / "meddled") == logged_steps(tmp_path / "plain")


def test_modes_and_tokenizer_come_back_also_after_an_error(tmp_path: Path, dropout: Recipe) -> None:
    found: list[Any] = []

    def fails(model: LoadedStudent) -> None:
        model.processor.tokenizer.padding_side = "left"
        found.append((model, torch.random.get_rng_state()))
        torch.rand(1)
        raise UserError("no space left")

    with pytest.raises(UserError, match="no space left"):
        train(dropout, tmp_path / "run", evaluate=Scripted({}, fails))
    ((model, state),) = found
    assert any(part.training for part in model.student.modules())
    assert model.processor.tokenizer.padding_side == "right"
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_run_killed_behind_an_evaluation_takes_its_answers_over(
    tmp_path: Path, dropout: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_and_evaluate(dropout, tmp_path / "whole")
    step = loop._Run._step

    def dies_at_5(run: Any, batches: Any) -> None:
        if run.progress.step == 4:  # measured, and the last checkpoint is that of step 3
            raise KeyboardInterrupt
        step(run, batches)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_step", dies_at_5)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(dropout, tmp_path / "cut")
    # An answer that no student gives shows whether the item is asked again.
    file = tmp_path / "cut" / "evaluation" / "step-000004" / "colours.answers.jsonl"
    header, *lines = file.read_text().splitlines()
    row = json.loads(lines[0])
    marked = {**row, "answer": "a marked answer"}
    file.write_text("\n".join([header, json.dumps(marked), *lines[1:]]) + "\n")
    train_and_evaluate(dropout, tmp_path / "cut")
    assert answers(file.parent)[row["id"]] == "a marked answer"
    assert not list(file.parent.glob("*.old"))
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    without = [[{**row, "evaluation_colours": 0} for row in rows(tmp_path / run)] for run in ("cut", "whole")]
    assert [row["step"] for row in without[0]] == [row["step"] for row in without[1]]
    # With other weights at that step they would be of another student.
    state = json.loads(header)["header"]["model"]
    other = json.loads((file.parent.parent / "step-000002" / "colours.answers.jsonl").read_text().splitlines()[0])
    assert state["identity"] != other["header"]["model"]["identity"]


@pytest.mark.parametrize("stopped", [2, 6])
def test_a_run_asked_to_stop_in_an_evaluation_stops_and_goes_on_with_it(
    tmp_path: Path, dropout: Recipe, stopped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_and_evaluate(dropout, tmp_path / "whole")
    evaluate = in_training(dropout, "cut")
    assert evaluate is not None

    def is_preempted(
        model: Any, identity: str, folder: Path, asked_to_stop: Callable[[], bool], *, finish: bool
    ) -> Any:
        if folder.name == f"step-{stopped:06d}":
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(model, identity, folder, asked_to_stop, finish=finish)

    with pytest.raises(StoppedError, match=f"a checkpoint of step {stopped} of 6 was written"):
        train(dropout, tmp_path / "cut", evaluate=is_preempted)
    assert all("evaluation_colours" not in row for row in rows(tmp_path / "cut") if row["step"] == stopped)
    train_and_evaluate(dropout, tmp_path / "cut")
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_the_time_of_an_evaluation_is_no_steps(tmp_path: Path, dropout: Recipe) -> None:
    recipe = changed(dropout, evaluation={"every": 3})
    train(recipe, tmp_path / "run", evaluate=Scripted({}, lambda model: time.sleep(1.5)))
    timing = [json.loads(line) for line in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()]
    assert [row["step"] for row in timing if row.get("evaluation_seconds", 0) >= 1.5] == [3, 6]
    steps = [row for row in timing if "seconds" in row]
    assert len(steps) == 6
    assert all(row["seconds"] < 1.5 for row in steps)
    assert all(value < 1.5 for row in steps for name, value in row.items() if name.startswith("seconds_"))


def test_the_student_with_the_highest_score_is_kept(
    tmp_path: Path, dropout: Recipe, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = changed(dropout, training={"keep_best": "evaluation"})
    train(recipe, tmp_path / "run", evaluate=Scripted({2: 0.4, 4: 0.8, 6: 0.6}))
    assert "the student is that of step 4: evaluation 0.8000" in capfd.readouterr().err
    assert "held-out colours: 0.8000" in (tmp_path / "run" / "student" / "README.md").read_text()
    assert 4 in [int(path.name[5:]) for path in complete_checkpoints(tmp_path / "run" / "checkpoints")]
    steps = changed(dropout, evaluation={"every": None, "during": {}})
    # Adapters begin at random; the same seed and the same four steps make the same student.
    train(steps, tmp_path / "plain")
    assert weights(tmp_path / "run") != weights(tmp_path / "plain")
    state = torch.load(tmp_path / "run" / "checkpoints" / "step-000004" / "state.pt", weights_only=True)["weights"]
    saved = load_file(tmp_path / "run" / "student" / "model.safetensors")
    projector = [name for name in state if name.startswith("projector")]
    assert projector
    assert all(torch.equal(saved[name], state[name]) for name in projector)


def test_a_mistake_in_its_tasks_is_told_before_training(tmp_path: Path, dropout: Recipe) -> None:
    with pytest.raises(UserError, match="did you mean 'easy_vqa'"):
        train_and_evaluate(changed(dropout, evaluation={"during": {"tasks": ["easy_vqua"]}}), tmp_path / "run")
    lost = tmp_path / "lost.yaml"
    shutil.copy(tmp_path / "colours.yaml", lost)
    lost.write_text(lost.read_text().replace("name: colours", "name: lost").replace("path: ", "path: nowhere"))
    for keys in ({"during": {"tasks": [str(lost)]}}, {"tasks": [str(lost)], "every": None, "during": {}}):
        with pytest.raises(UserError, match="nowhere"):
            train_and_evaluate(changed(dropout, evaluation=keys), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": {"tasks": []}}, "every needs tasks to measure"),
        ({"evaluation": {"every": None}}, "during is of evaluations in the middle of training"),
        ({"evaluation": {"ema": True}}, "evaluation.ema measures the average"),
        (
            {"evaluation": {"every": None, "during": {}}, "training": {"keep_best": "evaluation"}},
            "set evaluation.every",
        ),
    ],
)
def test_keys_that_do_not_go_together_are_refused(dropout: Recipe, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        changed(dropout, **changes)


def test_the_best_cannot_be_kept_where_nobody_evaluates(tmp_path: Path, dropout: Recipe) -> None:
    with pytest.raises(UserError, match="install the package taid_vlm_eval"):
        train(changed(dropout, training={"keep_best": "evaluation"}), tmp_path / "run")


@pytest.mark.slow
def test_two_processes_are_measured_and_go_on_to_the_same_bits(tmp_path: Path, dropout: Recipe) -> None:
    measured = changed(dropout, training={"steps": 4, "ema": 0.9}, evaluation={"ema": True, "during": {}})
    plain = changed(measured, evaluation={"every": None, "ema": False})
    for name, recipe in (("measured", measured), ("plain", plain)):
        (tmp_path / f"{name}.yaml").write_text(dump_recipe(recipe))
    runs = [f"{strategy}/{name}" for strategy in ("ddp", "fsdp2") for name in ("measured", "plain")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = [*launcher, "tests.evaluation_worker", str(tmp_path), *runs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    for strategy in ("ddp", "fsdp2"):
        one, other = tmp_path / f"{strategy}-measured", tmp_path / f"{strategy}-plain"
        for student in ("student", "student-ema"):
            assert weights(one, student) == weights(other, student)
        assert logged_steps(one) == logged_steps(other)
        assert [row["step"] for row in rows(one) if "evaluation_ema/colours" in row] == [2, 4]
        for kind in (".", "ema"):
            assert answers(one / "evaluation" / "step-000004" / kind) == answers(one / "evaluation" / kind)
