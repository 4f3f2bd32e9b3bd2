"""Trackers: what real libraries wrote is what the run logged, once; and what each library is told, with a stand-in for it."""

import errno
import json
import re
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from accelerate.utils import LoggerType

from taid_vlm.common.errors import UserError
from taid_vlm.common.stopping import RESUMABLE, StoppedError
from taid_vlm.recipe import Recipe
from taid_vlm.training import train
from taid_vlm.training.log import RunLog
from taid_vlm.training.trackers import KNOWN_AS, tell
from tests.tiny.recipes import tiny_recipe
from tests.training.test_two_processes import launch
from tests.training.tracker_readers import READERS, Written

LATER = {"evaluation_seconds", "seconds", "data_seconds", "tokens_per_second", "memory_bytes"}  # differ from run to run


def recipe_of(language_model: Path, easy_vqa: Path, *trackers: str, **training: Any) -> Recipe:
    given = {"steps": 5, "batch_size": 4, "lr": 5e-3, "checkpoint_every": 2, "precision": "fp32"}
    return tiny_recipe(language_model, easy_vqa, training={**given, "trackers": list(trackers), **training})


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders of the libraries in place of the user's; trackio looks at its variable when it is imported."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("TRACKIO_DIR", str(folder / "trackio"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


def train_until(step: int, error: BaseException, recipe: Recipe, run_dir: Path) -> None:
    """Train up to a step that ``error`` ends."""
    tell = RunLog.step

    def until(log: RunLog, number: int, *rest: Any) -> None:
        tell(log, number, *rest)
        if number == step:
            raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "step", until)
        with pytest.raises(type(error), match=re.escape(str(error)) or None):
            train(recipe, run_dir)


def logged(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """What ``metrics.jsonl`` has, by the names that trackers are told."""
    figures: dict[str, list[tuple[int, float]]] = {}
    for line in (run_dir / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name != "step":
                figures.setdefault(name.replace("validation_", "validation/"), []).append((row["step"], value))
    return figures


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("broken")], ids=["stopped", "failed"])
def test_a_real_library_has_each_figure_once_though_the_run_was_interrupted(
    tmp_path: Path,
    language_model: Path,
    easy_vqa: Path,
    stores: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: BaseException,
) -> None:
    if find_spec(name) is None:
        pytest.skip(f"the tracker {name} is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    recipe, run_dir = recipe_of(language_model, easy_vqa, name), tmp_path / f"run-{type(error).__name__}"
    train_until(3, error, recipe, run_dir)  # a step after the checkpoint of step 2
    cut = settled(name, run_dir, ends=1)
    train(recipe, run_dir)
    written = settled(name, run_dir, ends=2)
    figures = {key: values for key, values in written.figures.items() if not key.startswith("seconds_")}
    expected = logged(run_dir)
    assert set(figures) - LATER == set(expected)
    for key, values in expected.items():
        assert [step for step, _ in figures[key]] == [step for step, _ in values]
        assert [value for _, value in figures[key]] == pytest.approx([value for _, value in values], rel=1e-6)
    assert len(written.runs) <= 1
    check_ends(name, cut, written, stopped=isinstance(error, KeyboardInterrupt))
    if name == "mlflow":
        assert written.settings["training.lr"] == "0.005"
        assert written.settings["student.vision_encoder.name"] == "test_resnet"
    elif name != "tensorboard":
        assert written.settings["training"]["lr"] == 5e-3
        assert written.settings["student"]["vision_encoder"]["name"] == "test_resnet"


def settled(name: str, run_dir: Path, ends: int) -> Written:
    """What is in the store; W&B's other process may write its last lines after the run was closed."""
    until = time.monotonic() + 10
    while (written := READERS[name](run_dir)) and name == "wandb" and len(written.ended) < ends:
        assert time.monotonic() < until
        time.sleep(0.1)
    return written


def check_ends(name: str, cut: Written, whole: Written, stopped: bool) -> None:
    if name == "wandb":
        assert cut.ended == [str(RESUMABLE if stopped else 1)]
        assert whole.ended[-1] == "0"
    if name == "mlflow":
        assert cut.ended == ["KILLED" if stopped else "FAILED"]
        assert whole.ended == ["FINISHED"]


class StandIn:
    """A library of trackers: notes what it is told, in the order in which it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def note(self, name: str) -> Any:
        def call(*given: Any, **named: Any) -> None:
            self.calls.append((name, {**dict(enumerate(given)), **named}))

        return call

    def named(self, name: str) -> list[Any]:
        return [told for called, told in self.calls if called == name]


@pytest.fixture
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A stand-in for the library whose name is the parameter, of which accelerate believes that it is installed."""
    told, module = StandIn(), ModuleType(request.param)

    def begin(**named: Any) -> Any:
        told.calls.append(("init", named))
        run = {name: told.note(name) for name in ("log", "finish", "mark_preempting")}
        return SimpleNamespace(id=named.get("id", "abc"), name=named.get("name"), **run)

    def start_run(**named: Any) -> Any:
        told.calls.append(("init", named))
        return SimpleNamespace(info=SimpleNamespace(run_id=named["run_id"] or "abc"))

    parts: dict[str, Any] = {"init": begin, "config": SimpleNamespace(update=told.note("config"))}
    parts["finish"] = told.note("finish")
    if request.param == "mlflow":
        limits = SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)
        parts = {
            "search_experiments": lambda **_: [],
            "create_experiment": lambda **_: "1",
            "start_run": start_run,
            "log_params": told.note("config"),
            "log_metrics": told.note("log"),
            "end_run": told.note("finish"),
            "utils": SimpleNamespace(validation=limits),
        }
    for name, part in parts.items():
        setattr(module, name, part)
    monkeypatch.setitem(sys.modules, request.param, module)
    usable = [LoggerType.TENSORBOARD, LoggerType(request.param)]
    monkeypatch.setattr("accelerate.tracking._available_trackers", usable)
    return told


def first_settings(library: StandIn) -> dict[str, Any]:
    return library.named("config")[0][0]


@pytest.mark.parametrize("library", ["wandb"], indirect=True)
def test_wandb_goes_on_with_the_run_and_knows_how_it_ended(
    tmp_path: Path, language_model: Path, easy_vqa: Path, library: StandIn
) -> None:
    recipe, run_dir = recipe_of(language_model, easy_vqa, "wandb"), tmp_path / "mine"
    train_until(3, StoppedError("asked to stop"), recipe, run_dir)
    (begun,) = library.named("init")
    assert begun == {"project": "taid-vlm", "name": "mine", "dir": str(run_dir)}
    assert first_settings(library)["training"]["lr"] == 5e-3
    assert [name for name, _ in library.calls[-2:]] == ["mark_preempting", "finish"]
    assert library.named("finish") == [{"exit_code": RESUMABLE}]
    assert json.loads((run_dir / KNOWN_AS).read_text()) == {"wandb": "abc"}
    train(recipe, run_dir)
    assert library.named("init")[1] == {**begun, "id": "abc", "resume": "allow"}
    assert library.named("finish")[1:] == [{}]
    steps = [told["step"] for told in library.named("log")]
    assert steps == sorted(steps)
    assert [told["step"] for told in library.named("log") if "loss" in told[0]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("library", ["mlflow"], indirect=True)
def test_mlflow_goes_on_with_the_run_and_knows_how_it_ended(
    tmp_path: Path, language_model: Path, easy_vqa: Path, library: StandIn
) -> None:
    recipe, run_dir = recipe_of(language_model, easy_vqa, "mlflow"), tmp_path / "mine"
    train_until(3, ValueError("broken"), recipe, run_dir)
    assert library.named("init")[0]["run_name"] == "mine"
    assert library.named("init")[0]["run_id"] is None
    assert first_settings(library)["training.lr"] == 5e-3
    assert all(isinstance(value, bool | int | float | str) for value in first_settings(library).values())
    assert library.named("finish") == [{0: "FAILED"}]
    told = len(library.named("config"))
    train(recipe, run_dir)
    assert library.named("init")[1]["run_id"] == "abc"
    assert len(library.named("config")) == told  # its settings cannot be told twice
    assert library.named("finish")[1:] == [{}]
    assert [told["step"] for told in library.named("log") if "loss" in told[0]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("library", ["trackio"], indirect=True)
def test_trackio_begins_a_run_of_its_own_and_goes_on_with_it(
    tmp_path: Path, language_model: Path, easy_vqa: Path, library: StandIn
) -> None:
    recipe, run_dir = recipe_of(language_model, easy_vqa, "trackio"), tmp_path / "mine"
    train_until(3, KeyboardInterrupt(), recipe, run_dir)
    train(recipe, run_dir)
    first, second = library.named("init")
    assert first == {"project": "taid-vlm", "name": "mine"}  # another run of that name is left alone
    assert second == {**first, "resume": "allow"}
    assert len(library.named("finish")) == 2
    assert [told["step"] for told in library.named("log") if "loss" in told[0]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("library", ["wandb"], indirect=True)
def test_a_run_of_another_recipe_in_the_folder_is_another_run_of_the_tracker(
    tmp_path: Path, language_model: Path, easy_vqa: Path, library: StandIn
) -> None:
    """The first one has no checkpoint, so that its folder may be taken."""
    train_until(1, KeyboardInterrupt(), recipe_of(language_model, easy_vqa, "wandb"), tmp_path / "run")
    train(recipe_of(language_model, easy_vqa, "wandb", lr=1e-4), tmp_path / "run")
    assert [set(begun) for begun in library.named("init")] == [{"project", "name", "dir"}] * 2
    assert [told["step"] for told in library.named("log") if "loss" in told[0]] == [1, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("library", ["wandb"], indirect=True)
def test_a_tracker_that_fails_on_the_way_does_not_end_the_run(
    tmp_path: Path,
    language_model: Path,
    easy_vqa: Path,
    library: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(tracker: Any, values: Any, step: int) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("accelerate.tracking.WandBTracker.log", fail)
    student = train(recipe_of(language_model, easy_vqa, "wandb", "tensorboard"), tmp_path / "run")
    assert (student / "model.safetensors").is_file()
    said = capsys.readouterr().err
    assert said.count("the tracker wandb is left out from step 1 on: ConnectionError: no route to host") == 1


@pytest.mark.parametrize("library", ["wandb"], indirect=True)
def test_a_tracker_that_does_not_start_is_told_before_a_model_is_loaded(
    tmp_path: Path, language_model: Path, easy_vqa: Path, library: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("No API key configured. Use `wandb login`")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    monkeypatch.setattr("taid_vlm.training.loop.prepare", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(
        UserError, match=r"trackers \(wandb\) do not start: RuntimeError: No API key.*WANDB_MODE=offline"
    ):
        train(recipe_of(language_model, easy_vqa, "wandb"), tmp_path / "run")


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow", "tensorboard", "comet_ml"])
def test_a_tracker_that_is_not_installed_is_told_with_what_installs_it(
    tmp_path: Path, language_model: Path, easy_vqa: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    extra = {"tensorboard": "tensorboard", "comet_ml": "comet-ml"}.get(name, f"'taid-vlm[{name}]'")
    with pytest.raises(UserError) as told:
        train(recipe_of(language_model, easy_vqa, name), tmp_path / "run")
    assert str(told.value) == f"tracker {name!r} is not installed: pip install {extra}, or choose another"
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_no_mistake_of_a_tracker() -> None:
    def full(values: Any, step: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    accelerator: Any = SimpleNamespace(trackers=[SimpleNamespace(name="tensorboard", log=full)])
    with pytest.raises(OSError, match="No space left"):
        tell(accelerator, {"loss": 1.0}, 1, pytest.fail)
    assert len(accelerator.trackers) == 1


def test_what_a_tracker_says_is_told_without_its_password() -> None:
    def fail(values: Any, step: int) -> None:
        raise ConnectionError("cannot reach https://me:hunter2@tracking.example")

    said: list[str] = []
    accelerator: Any = SimpleNamespace(trackers=[SimpleNamespace(name="mlflow", log=fail)])
    tell(accelerator, {"loss": 1.0}, 7, said.append)
    assert accelerator.trackers == []
    assert "left out from step 7 on: ConnectionError" in said[0]
    assert "hunter2" not in said[0]


@pytest.mark.slow
def test_of_two_processes_one_tells(tmp_path: Path, language_model: Path, easy_vqa: Path) -> None:
    launch(recipe_of(language_model, easy_vqa, "tensorboard", steps=2), tmp_path, "two")
    assert len(list((tmp_path / "two" / "tensorboard" / "taid-vlm").glob("events*"))) == 1
    written = READERS["tensorboard"](tmp_path / "two")
    assert [step for step, _ in written.figures["loss"]] == [1, 2]
