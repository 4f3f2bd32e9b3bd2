"""With --json standard output is JSON and nothing else, and no terminal's codes are in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from taid_vlm.cli import app
from taid_vlm.recipe import dump_recipe
from taid_vlm.training import train
from tests.eval.fakes import write_rows, write_task
from tests.report.written_runs import write_run
from tests.tiny.recipes import distil, tiny_recipe

# By command: arguments, in a folder with what the fixture below puts there.
CALLS: dict[str, list[str]] = {
    "recipes ls": [],
    "plan": ["r.yaml"],
    "preview": ["r.yaml", "--samples", "1"],
    "cache": ["r.yaml"],
    "eval": ["student", "--tasks", "small.yaml", "--output", "c"],
    "compare": ["a", "b", "--tasks-folder", "."],
    "runs": ["written"],
    "doctor": ["--offline"],
    "analyze regression": ["--points", "20", "--rounds", "2"],
    "analyze mass": ["student", "--recipe", "r.yaml", "--samples", "2"],
    "analyze schedule": ["--steps", "100"],
    "analyze variance": ["written/kl", "written/taid"],
}
ELSEWHERE = {"analyze gap"}  # needs runs of teachers of several sizes: tests/analysis/test_teacher_sizes.py


def commands(root: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")
        yield f"{above}{name}", command


def with_json() -> set[str]:
    found = commands(typer.main.get_command(app))
    return {name for name, command in found if any("--json" in option.opts for option in command.params)}


def test_every_command_with_json_is_called_below() -> None:
    assert with_json() == set(CALLS) | ELSEWHERE


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    """A folder with a student, a recipe that it teaches, two evaluations, and two runs."""
    folder = tmp_path_factory.mktemp("room")
    training = {"steps": 1, "batch_size": 4, "lr": 5e-3, "precision": "fp32", "trackers": []}
    content = tiny_recipe(language_model, easy_vqa, training=training).model_dump()
    content["student"]["language_model"]["layers"] = None
    train(tiny_recipe(language_model, easy_vqa, **content), folder / "run").rename(folder / "student")
    (folder / "r.yaml").write_text(dump_recipe(distil(language_model, easy_vqa, folder / "student", training=training)))
    write_rows(folder, [{"question": f"{n}?", "answer": "a"} for n in range(4)])
    write_task(folder)
    for method in ("kl", "taid"):
        write_run(folder / "written" / method, method, steps=30, total=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for output in ("a", "b"):
            done = CliRunner().invoke(app, ["eval", "student", "--tasks", "small.yaml", "--output", output, "--json"])
            assert done.exit_code == 0, done.output
            assert json.loads(done.stdout)[0]["n"] == 4
    return folder


@pytest.mark.parametrize("name", CALLS)
def test_standard_output_is_json_alone(room: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(room)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    done = CliRunner().invoke(app, [*name.split(), *CALLS[name], "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)
    assert "\x1b" not in done.output
