"""The folder of a run: killed at any moment while it is taken, the same command takes it; others' files are left alone."""

import json
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from taid_vlm.common.errors import UserError
from taid_vlm.common.file_lock import alone_or_not
from taid_vlm.common.files import write_atomic
from taid_vlm.recipe import Recipe, dump_recipe
from taid_vlm.training import run_folder, train
from taid_vlm.training.run_folder import check_run_folder, claim, held
from tests.tiny.recipes import tiny_recipe


@pytest.fixture
def recipe(language_model: Path, easy_vqa: Path) -> Recipe:
    return tiny_recipe(language_model, easy_vqa)


def take(run_dir: Path, recipe: Recipe) -> str:
    return claim(run_dir, recipe, Accelerator(cpu=True))


def complete(run_dir: Path, recipe: Recipe) -> bool:
    about = json.loads((run_dir / "run.json").read_text())["recipe"]
    return about == (run_dir / "recipe.yaml").read_text() == dump_recipe(recipe)


@pytest.mark.parametrize("writes", [0, 1])
@pytest.mark.parametrize("temporary", [False, True], ids=["between", "in the middle"])
def test_killed_while_it_is_taken_the_same_command_takes_it(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, writes: int, temporary: bool
) -> None:
    done: list[Path] = []

    def dies(path: Path, data: Any) -> None:
        if len(done) == writes:
            if temporary:
                path.parent.mkdir(exist_ok=True)
                (path.parent / f".{path.name}.x1y2z3").write_text("half")
            raise KeyboardInterrupt
        write_atomic(path, data)
        done.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_atomic", dies)
        with pytest.raises(KeyboardInterrupt):
            take(tmp_path / "run", recipe)
    assert take(tmp_path / "run", recipe) == "fp32"
    assert complete(tmp_path / "run", recipe)


def test_somebody_elses_files_are_refused_and_left(tmp_path: Path, recipe: Recipe) -> None:
    for name in ("thesis.tex", "recipe.yaml"):
        (folder := tmp_path / name.partition(".")[0]).mkdir()
        (folder / name).write_text("mine")
        refused = pytest.raises(UserError, match="is not empty and holds no run; choose another --output")
        with refused, held(folder, recipe, Accelerator(cpu=True), None):
            pytest.fail("taken")
        assert [path.read_text() for path in folder.iterdir()] == ["mine"]


def test_two_runs_are_never_in_one_folder(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "PATIENCE", 0.0)
    taken = [tmp_path / "run", recipe, Accelerator(cpu=True), None]
    with held(*taken) as precision:  # type: ignore[arg-type]
        assert precision == "fp32"
        with pytest.raises(UserError, match=r"another process trains in .*run: wait for its end, stop it, or choose"):
            train(recipe, tmp_path / "run")
    with held(*taken):  # type: ignore[arg-type]
        assert complete(tmp_path / "run", recipe)


def test_the_lock_of_a_killed_runs_children_is_waited_for(tmp_path: Path, recipe: Recipe) -> None:
    with ExitStack() as other:
        assert other.enter_context(alone_or_not(tmp_path / "run" / run_folder.LOCK))
        threading.Timer(1.0, other.pop_all().close).start()
        with held(tmp_path / "run", recipe, Accelerator(cpu=True), None):
            assert complete(tmp_path / "run", recipe)


def test_a_check_writes_nothing(tmp_path: Path, recipe: Recipe) -> None:
    assert check_run_folder(tmp_path / "run", recipe) is None
    assert not (tmp_path / "run").exists()


def test_a_run_with_nothing_to_lose_gives_way_to_another_recipe(tmp_path: Path, recipe: Recipe) -> None:
    take(tmp_path, recipe)
    other = recipe.model_copy(update={"seed": 1})
    take(tmp_path, other)
    assert complete(tmp_path, other)
    (tmp_path / "student").mkdir()
    with pytest.raises(UserError, match=r"another recipe.*seed: 0"):
        take(tmp_path, recipe)
