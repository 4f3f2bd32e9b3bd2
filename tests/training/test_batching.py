"""However the samples of a step are batched, the step is the same; and so is a run that was interrupted."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.recipe import Recipe
from taid_vlm.training import loop, train
from tests.tiny.language_model import save_tiny_language_model
from tests.tiny.native import save_native, save_native_tokenizer_llama
from tests.tiny.recipes import distil, logged_steps

LENGTHS = [3, 90, 11, 40, 0, 7, 120, 25, 60, 2]
TRAINING = {"steps": 5, "batch_size": 4, "micro_batch_size": 2, "lr": 5e-3, "precision": "fp32", "checkpoint_every": 2}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Questions of different lengths, most of them about a picture."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    lines = []
    for index, length in enumerate(LENGTHS):
        asked: Any = "x" * length + "?"
        row: dict[str, Any] = {"images": []}
        if index % 4:
            Image.new("RGB", (16, 16), (20 * index, 20, 200)).save(folder / f"{index}.png")
            asked, row = [{"type": "text", "text": asked}, {"type": "image"}], {"images": [f"{index}.png"]}
        row["messages"] = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": "red" * (index % 3 + 1)},
        ]
        lines.append(json.dumps(row))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def recipe(language_model: Path, mixed: Path, teacher: Path, batching: str, cache: bool = False, **data: Any) -> Recipe:
    source = {"train": [{"kind": "jsonl", "path": str(mixed)}], "batching": batching, "max_length": 256, **data}
    loss = {"name": "taid", "alpha_total": 20.0, "mass_rows": 0}
    return distil(language_model, mixed, teacher, cache, data=source, training=TRAINING, loss=loss)


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("batching", ["grouped", "packed"])
def test_a_step_is_the_padded_step(
    tmp_path: Path, language_model: Path, mixed: Path, teacher: Path, batching: str, cache: bool
) -> None:
    train(recipe(language_model, mixed, teacher, "padded", cache), tmp_path / "padded")
    train(recipe(language_model, mixed, teacher, batching, cache), tmp_path / "other")
    for left, right in zip(logged_steps(tmp_path / "padded"), logged_steps(tmp_path / "other"), strict=True):
        for name, value in left.items():
            assert right[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_a_stock_teacher_is_padded_beside_a_packed_student(tmp_path: Path, mixed: Path) -> None:
    save_native(tmp_path / "teacher", "internvl")
    student = tmp_path / "student"
    save_native_tokenizer_llama(student, "internvl")
    steps = {}
    for batching in ("padded", "packed"):
        wanted = recipe(student, mixed, tmp_path / "teacher", batching, max_length=512)
        train(wanted, tmp_path / batching)
        steps[batching] = logged_steps(tmp_path / batching)
    for left, right in zip(*steps.values(), strict=True):
        for name, value in left.items():
            assert right[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("batching", ["grouped", "packed"])
def test_an_interrupted_run_ends_in_the_same_bits(
    tmp_path: Path, language_model: Path, mixed: Path, teacher: Path, batching: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(language_model, mixed, teacher, batching, workers=1)
    train(wanted, tmp_path / "whole")
    step = loop._Run._step

    def dies_at_3(self: Any, batches: Any) -> None:
        if self.progress.step == 3:
            raise KeyboardInterrupt
        step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_step", dies_at_3)
        with pytest.raises(KeyboardInterrupt):
            train(wanted, tmp_path / "cut")
    train(wanted, tmp_path / "cut")
    for name in ("metrics.jsonl", "student/model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_seconds_of_waiting_for_data_are_written_beside_those_of_the_step(
    tmp_path: Path, language_model: Path, mixed: Path, teacher: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(recipe(language_model, mixed, teacher, "packed"), tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()]
    assert len(rows) == TRAINING["steps"]
    assert all(0 < row["data_seconds"] < row["seconds"] for row in rows)
    assert "data_seconds" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_a_student_that_cannot_be_packed_is_refused_before_training(tmp_path: Path, mixed: Path, teacher: Path) -> None:
    family = save_tiny_language_model(tmp_path / "lfm2", "lfm2", layers=2)
    with pytest.raises(UserError, match=r"family 'lfm2' cannot be packed.*data\.batching: grouped"):
        train(recipe(family, mixed, teacher, "packed"), tmp_path / "run")


def test_attention_is_chosen_or_refused_by_name(
    tmp_path: Path, language_model: Path, mixed: Path, teacher: Path
) -> None:
    base = recipe(language_model, mixed, teacher, "packed").model_dump()
    base["training"]["attention"] = "eager"
    train(Recipe.model_validate(base), tmp_path / "eager")
    train(recipe(language_model, mixed, teacher, "packed"), tmp_path / "usual")
    for left, right in zip(logged_steps(tmp_path / "usual"), logged_steps(tmp_path / "eager"), strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-4)
    base["training"]["attention"] = "flashy"
    with pytest.raises(UserError, match=r"training\.attention: flashy cannot be used with LlamaForCausalLM.*Set eager"):
        train(Recipe.model_validate(base), tmp_path / "run")


def test_rows_shorter_than_a_sample_may_be_are_refused(language_model: Path, mixed: Path, teacher: Path) -> None:
    with pytest.raises(ValueError, match="pack_length 100 is below max_length 256"):
        recipe(language_model, mixed, teacher, "packed", pack_length=100)
    with pytest.raises(ValueError, match="pack_length is of packed rows"):
        recipe(language_model, mixed, teacher, "grouped", pack_length=512)
    assert recipe(language_model, mixed, teacher, "packed", pack_length=512).data.row_length == 512
