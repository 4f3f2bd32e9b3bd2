"""A quickstart that is stopped in training and in the evaluation ends as one that nothing stopped."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taid_vlm import quickstart
from taid_vlm.common.assets import ASSETS
from taid_vlm.common.stopping import INTERRUPTED, RESUMABLE
from taid_vlm.recipe import dump_recipe, load_recipe
from tests.cli.stopped_programs import CHECKPOINT, KEPT, STEP, STUDENT_ANSWERS, TRAINING, contents, run, stop
from tests.tiny.recipes import distil, tiny_recipe

pytestmark = pytest.mark.slow


def make_tiny(put: Callable[[Any, str, Any], None]) -> None:
    """Let the quickstart read its recipes and its teacher in the working folder; ``put`` is setattr, or that of a monkeypatch."""

    def recipes(overrides: list[str], teacher: str) -> dict[str, Any]:
        return {name: load_recipe(f"{name}.yaml", overrides) for name in quickstart.STUDENTS}

    put(quickstart, "student_recipes", recipes)
    put(quickstart, "origin_of", lambda name, overrides: {"recipe": name})
    put(quickstart, "SHIPPED_TEACHER", "teacher")


def test_the_quickstart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language_model: Path, easy_vqa: Path, student: Path
) -> None:
    for name in quickstart.ASSETS:
        place = tmp_path / "cache" / "assets" / f"{name}-{ASSETS[name].version}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(easy_vqa)
    (tmp_path / "teacher").symlink_to(student)
    common: dict[str, Any] = {"training": TRAINING, "evaluation": {"tasks": ["easy_vqa"], "batch_size": 4}}
    recipes = {"sft": tiny_recipe(language_model, easy_vqa, **common)}
    for name in ("kl", "taid"):
        recipes[name] = distil(language_model, easy_vqa, student, loss={"name": name}, **common)
    for name, recipe in recipes.items():
        (tmp_path / f"{name}.yaml").write_text(dump_recipe(recipe))
    tiny = "from tests.cli.test_stopped_quickstart import make_tiny\nmake_tiny(setattr)"
    command = ["quickstart", "--output", "cut"]
    stopped = stop(tmp_path, signal.SIGTERM, STEP, command, pieces=5, before=tiny)
    assert stopped.status == RESUMABLE
    assert stopped.errors.endswith(CHECKPOINT.format("SIGTERM", 2, 4, " ".join(command)))
    stopped = stop(tmp_path, signal.SIGINT, STUDENT_ANSWERS, command, pieces=3, before=tiny)
    assert stopped.status == INTERRUPTED
    assert stopped.errors.endswith(KEPT.format(" ".join(command)))
    kept = {name: body for name, body in contents(tmp_path / "cut").items() if name.endswith("safetensors")}
    monkeypatch.chdir(tmp_path)
    make_tiny(monkeypatch.setattr)
    run(*command)
    run("quickstart", "--output", "whole")
    tables = []
    for output in ("cut", "whole"):
        rows = json.loads((tmp_path / output / "table.json").read_text())
        tables.append([{key: value for key, value in row.items() if key != "answers_per_second"} for row in rows])
    assert tables[0] == tables[1]
    cut, whole = contents(tmp_path / "cut"), contents(tmp_path / "whole")
    cut = {name: body for name, body in cut.items() if "/checkpoints/" not in name}  # that of the stop
    assert cut.keys() == whole.keys()
    same = {name for name in whole if name.endswith(("model.safetensors", "metrics.jsonl"))}
    assert {name for name in same if cut[name] != whole[name]} == set()
    for name in (name for name in whole if name.endswith(".answers.jsonl")):  # below the line about the model
        assert cut[name].splitlines()[1:] == whole[name].splitlines()[1:]
    assert {name: cut[name] for name in kept} == kept
