"""Weight files that are pickles with a payload: it does not run, and the message says so in one line."""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from taid_vlm.common.errors import UserError
from taid_vlm.models.encoders.weights import load_weights
from taid_vlm.models.native.internvl2.weights import WeightFiles
from taid_vlm.models.native.loading import open_native
from taid_vlm.training import train
from taid_vlm.training.checkpoint import FILE
from tests.security.commands import run
from tests.tiny.native import save_native
from tests.tiny.recipes import tiny_recipe


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.target),)


WAYS: dict[str, Callable[[Any, Path], object]] = {
    "pickle": lambda content, file: file.write_bytes(pickle.dumps(content)),
    "torch": lambda content, file: torch.save(content, file),
    "legacy": lambda content, file: torch.save(content, file, _use_new_zipfile_serialization=False),
}


def lone_bin(folder: Path, content: Any, way: str = "torch") -> Path:
    """The folder with ``pytorch_model.bin`` in place of its safetensors."""
    for file in folder.glob("model*.safetensors*"):
        file.unlink()
    WAYS[way](content, folder / "pytorch_model.bin")
    return folder


def write_recipe(file: Path, content: dict[str, Any]) -> str:
    file.write_text(yaml.safe_dump(content))
    return str(file)


def one_clear_line(said: str) -> None:
    """No traceback, nothing that advises to let the file run, and one message."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "not run" in errors[0]
    assert "Traceback" not in said
    assert "weights_only" not in said


def test_the_payload_would_run(tmp_path: Path) -> None:
    for number, (way, write) in enumerate(WAYS.items()):
        write({"a": Payload(tmp_path / str(number))}, tmp_path / way)
        if way == "torch":  # as torch.load unpickles it: the archive's own pickle
            with zipfile.ZipFile(tmp_path / way) as archive:
                (name,) = (one for one in archive.namelist() if one.endswith("data.pkl"))
                pickle.loads(archive.read(name))
        elif way == "pickle":
            pickle.loads((tmp_path / way).read_bytes())
        assert (tmp_path / str(number)).is_dir() or way == "legacy"


@pytest.mark.parametrize("way", WAYS)
def test_a_student_s_language_model(
    tmp_path: Path,
    language_model: Path,
    easy_vqa: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = lone_bin(shutil.copytree(language_model, tmp_path / "lm"), {"a": Payload(tmp_path / "ran")}, way)
    recipe = write_recipe(tmp_path / "r.yaml", tiny_recipe(folder, easy_vqa).model_dump(mode="json"))
    assert run(monkeypatch, "train", recipe, "--output", str(tmp_path / "run")) == 1
    one_clear_line(capfd.readouterr().err)
    assert not (tmp_path / "ran").exists()


def test_a_teacher_s_language_model(
    tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = lone_bin(shutil.copytree(language_model, tmp_path / "lm"), {"a": Payload(tmp_path / "ran")})
    (tmp_path / "data.txt").write_text("some words\n" * 9)
    content = {
        "student": {"language_model": {"source": str(language_model)}},
        "teacher": {"language_model": {"source": str(folder)}},
        "data": {"train": [{"kind": "text", "path": str(tmp_path / "data.txt")}]},
        "loss": {"name": "kl"},
        "training": {"steps": 1, "batch_size": 1, "lr": 1e-4},
    }
    assert run(monkeypatch, "train", write_recipe(tmp_path / "r.yaml", content), "--output", str(tmp_path / "run")) == 1
    one_clear_line(capfd.readouterr().err)
    assert not (tmp_path / "ran").exists()


def test_a_stock_teacher(tmp_path: Path) -> None:
    folder = lone_bin(save_native(tmp_path / "teacher", "qwen2_vl"), {"a": Payload(tmp_path / "ran")})
    with pytest.raises(UserError, match=r"cannot load the teacher .*not run\. Get the weights as safetensors$"):
        open_native(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_that_is_evaluated(
    tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = lone_bin(shutil.copytree(language_model, tmp_path / "lm"), {"a": Payload(tmp_path / "ran")})
    (tmp_path / "small.jsonl").write_text(json.dumps({"question": "a?", "answer": "b"}) + "\n")
    task = {"name": "small", "description": "d", "data": {"source": "jsonl", "path": "small.jsonl"}}
    task |= {"generation": {"max_new_tokens": 2}, "scorer": "exact_match", "metric": "accuracy"}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(task))
    arguments = ("--tasks", str(tmp_path / "small.yaml"), "--output", str(tmp_path / "out"), "--device", "cpu")
    assert run(monkeypatch, "eval", str(folder), *arguments) == 1
    one_clear_line(capfd.readouterr().err)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("way", WAYS)
def test_weights_of_a_vision_encoder(tmp_path: Path, way: str) -> None:
    WAYS[way]({"weight": Payload(tmp_path / "ran")}, tmp_path / "encoder.pth")
    with pytest.raises(UserError, match=r"encoder\.pth as weights of the vision encoder: .*not run"):
        load_weights(torch.nn.Linear(2, 2), str(tmp_path / "encoder.pth"), "names")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not weights", pickle.dumps([1, 2])])
def test_weights_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "encoder.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"encoder\.pth"):
        load_weights(torch.nn.Linear(2, 2), str(tmp_path / "encoder.pth"), "names")


@pytest.mark.parametrize("way", WAYS)
def test_weights_of_a_checkpoint_that_is_converted(tmp_path: Path, way: str) -> None:
    WAYS[way]({"weight": Payload(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError) as told:
        WeightFiles(tmp_path)
    assert "weights_only" not in str(told.value)
    assert not (tmp_path / "ran").exists()


PLACES = {
    "weights": ("weights", "planted"),
    "optimizer": ("optimizer", "planted"),
    "random state": ("processes", 0, "random", "torch"),
    "clock": ("clock", "planted"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    """A run with checkpoints and no student yet, and its recipe beside it."""
    folder = tmp_path_factory.mktemp("begun")
    recipe = tiny_recipe(language_model, easy_vqa)
    os.environ["TAID_VLM_CACHE"] = str(folder / "cache")
    train(recipe, folder / "run")
    shutil.rmtree(folder / "run" / "student")
    write_recipe(folder / "r.yaml", recipe.model_dump(mode="json"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_checkpoint_that_a_run_goes_on_from(
    tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: str
) -> None:
    folder = shutil.copytree(begun, tmp_path / "begun")
    last = sorted((folder / "run" / "checkpoints").glob("step-*"))[-1]
    state = torch.load(last / FILE, weights_only=True)
    *above, key = PLACES[place]
    inner: Any = state
    for step in above:
        inner = inner[step]
    inner[key] = Payload(tmp_path / "ran")
    torch.save(state, last / FILE)
    assert run(monkeypatch, "train", str(folder / "r.yaml"), "--output", str(folder / "run")) == 1
    one_clear_line(capfd.readouterr().err)
    assert not (tmp_path / "ran").exists()
