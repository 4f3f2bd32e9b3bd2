"""Students in shards: adapters and scalars too, one checkpoint for any number of processes, weights that come back whole."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from taid_vlm.models.repeated import repeated_layers as units
from taid_vlm.models.student import Student
from taid_vlm.recipe import Recipe, dump_recipe
from taid_vlm.training import train
from taid_vlm.training.checkpoint import complete_checkpoints
from taid_vlm.training.sharding import scalars
from tests.tiny.language_model import tiny_llama
from tests.tiny.recipes import distil, logged_steps
from tests.training.test_splits import launch

TRAINING: dict[str, Any] = {"steps": 6, "batch_size": 4, "lr": 1e-3, "precision": "fp32", "trackers": []}
LORA = {"mode": "lora", "lora": {"rank": 2}}
FROZEN = {"mode": "frozen"}


def test_units_are_the_layers_and_nothing_inside_of_them() -> None:
    student = Student(tiny_llama(layers=3))
    assert units(student) == list(student.language_model.model.layers)
    blocks = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    assert units(nn.ModuleDict({"trunk": nn.Module(), "blocks": blocks})) == list(blocks)
    assert units(nn.ModuleList([nn.Linear(2, 2)])) == []


def test_scalars_are_found() -> None:
    module = nn.Linear(2, 2)
    module.scale = nn.Parameter(torch.tensor(1.0))
    assert scalars(module) == [module.scale]


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path, teacher: Path) -> Path:
    folder = tmp_path_factory.mktemp("sharding")

    def write(name: str, loss: dict[str, Any], train: dict[str, Any], **changes: Any) -> None:
        content = distil(language_model, easy_vqa, teacher, cache=False).model_dump()
        content["loss"] |= {"mass_rows": 0, **loss}
        # Small steps: AdamW makes much of the rounding of a gradient that is nearly zero.
        content["student"]["train"] |= {
            "projector": {"mode": "full", "lr": 1e-3},
            "language_model": {"mode": "full", "lr": 1e-3},
        }
        content["student"]["train"] |= train
        content["training"] = {**TRAINING, **changes}
        if "vision_encoder" in train:  # one with layer norms
            content["student"]["vision_encoder"] |= {"name": "test_vit", "image_size": 160}
            content["data"] |= {"cache_image_features": False}
        (folder / f"{name}.yaml").write_text(dump_recipe(Recipe.model_validate(content)))

    write("adapters", {}, {"language_model": LORA, "projector": FROZEN})
    write("bf16", {}, {"vision_encoder": {"mode": "full", "lr": 1e-3}}, precision="bf16")
    write("temperature", {"name": "ctkd", "temperature": {"lr": 0.05}}, {})
    return folder


def recipe(folder: Path, name: str) -> Recipe:
    from taid_vlm.recipe import load_recipe

    return load_recipe(str(folder / f"{name}.yaml"))


@pytest.mark.slow
def test_adapters_and_a_trained_scalar(recipes: Path) -> None:
    names = ("adapters", "temperature")
    launch(recipes, 2, *(f"fsdp2/{name}" for name in names))
    for name in names:
        train(recipe(recipes, name), recipes / f"one-{name}")
        ours, theirs = recipes / f"one-{name}", recipes / f"fsdp2-2-{name}"
        for left, right in zip(logged_steps(ours), logged_steps(theirs), strict=True):
            for figure in ("loss", "grad_norm", *(["temperature"] if name == "temperature" else [])):
                # A small divergence under a high temperature is a difference of nearly equal numbers; its gradient is not.
                rounding = 1e-3 if (name, figure) == ("temperature", "loss") else 1e-4
                assert right[figure] == pytest.approx(left[figure], rel=rounding), figure
        whole, sharded = (load_file(folder / "student" / "model.safetensors") for folder in (ours, theirs))
        assert whole.keys() == sharded.keys()
        assert all(torch.allclose(whole[key], sharded[key], atol=1e-4) for key in whole)
    assert logged_steps(recipes / "one-temperature")[-1]["temperature"] != pytest.approx(
        logged_steps(recipes / "one-temperature")[0]["temperature"], abs=1e-4
    )


@pytest.mark.slow
def test_half_of_the_bytes_change_little(recipes: Path) -> None:
    launch(recipes, 2, "fsdp2/bf16")
    train(recipe(recipes, "bf16"), recipes / "one-bf16")
    for left, right in zip(logged_steps(recipes / "one-bf16"), logged_steps(recipes / "fsdp2-2-bf16"), strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=0.03)


def cut_after_the_first_checkpoint(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "student")
    for later in complete_checkpoints(run_dir / "checkpoints")[1:]:
        shutil.rmtree(later)


@pytest.mark.slow
def test_three_copies_go_on_to_the_same_bits(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path
) -> None:
    content = distil(language_model, easy_vqa, teacher, cache=False).model_dump()
    content["training"] = {**TRAINING, "batch_size": 3, "checkpoint_every": 2, "keep_last": 9}
    (tmp_path / "r.yaml").write_text(dump_recipe(Recipe.model_validate(content)))
    run_dir, found = tmp_path / "ddp-3-r", []
    for _ in range(2):
        launch(tmp_path, 3, "ddp/r")
        found.append([(run_dir / file).read_bytes() for file in ("metrics.jsonl", "student/model.safetensors")])
        cut_after_the_first_checkpoint(run_dir)
    assert found[0] == found[1]


def test_dropout_goes_on_where_it_was(tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path) -> None:
    content = distil(language_model, easy_vqa, teacher, cache=False).model_dump()
    content["student"]["train"] |= {"language_model": {"mode": "lora", "lora": {"rank": 2, "dropout": 0.5}}}
    content["training"] = {**TRAINING, "checkpoint_every": 2, "keep_last": 9}
    found = []
    for _ in range(2):
        train(Recipe.model_validate(content), tmp_path / "r")
        files = ("metrics.jsonl", "student/model.safetensors", "student/README.md")
        found.append([(tmp_path / "r" / file).read_bytes() for file in files])
        cut_after_the_first_checkpoint(tmp_path / "r")
    assert found[0] == found[1]


@pytest.mark.slow
def test_one_process_goes_on_from_the_checkpoint_of_two(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path
) -> None:
    content = distil(language_model, easy_vqa, teacher, cache=False).model_dump()
    content["loss"] |= {"mass_rows": 0}
    content["training"] = {**TRAINING, "checkpoint_every": 2, "keep_last": 9}
    made = Recipe.model_validate(content)
    (tmp_path / "r.yaml").write_text(dump_recipe(made))
    launch(tmp_path, 2, "fsdp2/r")
    run_dir = tmp_path / "fsdp2-2-r"
    student = load_file(run_dir / "student" / "model.safetensors")
    steps = logged_steps(run_dir)
    cut_after_the_first_checkpoint(run_dir)
    train(made, run_dir)
    for left, right in zip(steps, logged_steps(run_dir), strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-3)
    again = load_file(run_dir / "student" / "model.safetensors")
    assert all(torch.allclose(student[key], again[key], atol=1e-4) for key in student)
