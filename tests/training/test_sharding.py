"""Students in shards: adapters and scalars too, one checkpoint for any number of processes, weights that come back whole."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from taid_vlm.models.student import Student
from taid_vlm.recipe import Recipe, dump_recipe
from taid_vlm.training import train
from taid_vlm.training.sharding import scalars, units
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
                assert right[figure] == pytest.approx(left[figure], rel=1e-4), figure
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


@pytest.mark.slow
def test_one_process_goes_on_from_the_checkpoint_of_two(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path
) -> None:
    from taid_vlm.training.checkpoint import complete_checkpoints

    content = distil(language_model, easy_vqa, teacher, cache=False).model_dump()
    content["loss"] |= {"mass_rows": 0}
    content["training"] = {**TRAINING, "checkpoint_every": 2, "keep_last": 9}
    made = Recipe.model_validate(content)
    (tmp_path / "r.yaml").write_text(dump_recipe(made))
    launch(tmp_path, 2, "fsdp2/r")
    run_dir = tmp_path / "fsdp2-2-r"
    student = load_file(run_dir / "student" / "model.safetensors")
    steps = logged_steps(run_dir)
    # As if it had been stopped after step 2.
    for file in (run_dir / "student").rglob("*"):
        file.unlink() if file.is_file() else None
    for later in complete_checkpoints(run_dir / "checkpoints")[1:]:
        (later / "state.pt").unlink()
    train(made, run_dir)
    for left, right in zip(steps, logged_steps(run_dir), strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-3)
    again = load_file(run_dir / "student" / "model.safetensors")
    assert all(torch.allclose(student[key], again[key], atol=1e-4) for key in student)
