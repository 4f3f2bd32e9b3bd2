"""The gradient of a step, its loss and the path of t do not depend on how its samples are split over micro-batches and processes."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from taid_vlm.recipe import dump_recipe
from tests.tiny.recipes import distil, logged_steps
from tests.training.splits_worker import train_watched

TRAINING = {"steps": 4, "batch_size": 8, "lr": 5e-3, "precision": "fp32", "trackers": [], "checkpoint_every": 2}
MICRO = {"whole": 8, "four": 4, "two": 2, "one": 1}
RUNS = {
    2: ["ddp/four", "ddp/two", "fsdp2/four", "fsdp2/two"],
    4: ["ddp/two", "fsdp2/two", "fsdp2/one"],
}
ZERO = ["zero2/four", "zero2/two", "zero3/four", "zero3/two"]


def launch(folder: Path, processes: int, *asked: str) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
    done = subprocess.run(
        [*launcher, "tests.training.splits_worker", str(folder), *asked], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path, teacher: Path) -> Path:
    """A vision-language student all of whose parts learn, from pictures and from text alone."""
    folder = tmp_path_factory.mktemp("splits")
    text = [
        {"messages": [{"role": "user", "content": f"Say {n}"}, {"role": "assistant", "content": f"{n} {n}"}]}
        for n in range(24)
    ]
    (folder / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in text))
    for name, micro in MICRO.items():
        recipe = distil(language_model, easy_vqa, teacher, cache=False)
        content: dict[str, Any] = recipe.model_dump()
        content["student"]["vision_encoder"] |= {"name": "test_vit", "image_size": 160}
        # Small steps: AdamW makes much of the rounding of a gradient that is nearly zero.
        content["student"]["train"] = {part: {"mode": "full", "lr": 1e-3} for part in content["student"]["train"]}
        content["data"] |= {"cache_image_features": False}
        # Held-out samples in several batches, of which some have no picture: shards must be gathered all the same.
        for part in ("train", "validation"):
            content["data"][part].append({"kind": "jsonl", "path": str(folder / "text.jsonl")})
        content["loss"] |= {"mass_rows": 0}
        content["training"] = {**TRAINING, "micro_batch_size": micro}
        (folder / f"{name}.yaml").write_text(dump_recipe(type(recipe).model_validate(content)))
    train_watched(folder, "whole", "single")
    return folder


def validations(run_dir: Path) -> list[dict[str, float]]:
    rows = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if "validation_cross_entropy" in row]


def assert_same(whole: Path, other: Path, processes: int) -> None:
    for left, right in zip(
        torch.load(whole / "gradients.pt", weights_only=True),
        torch.load(other / "gradients.pt", weights_only=True),
        strict=True,
    ):
        scale = float(left.abs().max())
        assert float((left - right).abs().max()) <= 1e-5 * scale + 1e-9
    for one, two in zip(logged_steps(whole), logged_steps(other), strict=True):
        assert one.keys() == two.keys()
        assert two["rows"] == one["rows"]
        for name in ("loss", "kl_target", "grad_norm"):
            assert two[name] == pytest.approx(one[name], rel=1e-5), (name, one["step"])
    for one, two in zip(validations(whole), validations(other), strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    paths = [json.loads((other / f"t-{rank}.json").read_text()) for rank in range(processes)]
    assert all(path == paths[0] for path in paths)
    assert paths[0] == pytest.approx(json.loads((whole / "t-0.json").read_text()), abs=1e-7)
    assert len(set(paths[0])) == TRAINING["steps"] - 1  # the clock moves from the second loss on
    left, right = (load_file(folder / "student" / "model.safetensors") for folder in (whole, other))
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert right[name].shape == tensor.shape
        assert float((right[name] - tensor).abs().mean()) < 1e-4, name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["four", "two"])
def test_micro_batches(runs: Path, name: str) -> None:
    assert_same(runs / "single-1-whole", train_watched(runs, name, "single"), 1)


@pytest.mark.slow
@pytest.mark.parametrize("processes", RUNS)
def test_processes(runs: Path, processes: int) -> None:
    launch(runs, processes, *RUNS[processes])
    for asked in RUNS[processes]:
        strategy, name = asked.split("/")
        assert_same(runs / "single-1-whole", runs / f"{strategy}-{processes}-{name}", processes)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
def test_processes_of_deepspeed(runs: Path) -> None:
    launch(runs, 2, *ZERO)
    for asked in ZERO:
        strategy, name = asked.split("/")
        assert_same(runs / "single-1-whole", runs / f"{strategy}-2-{name}", 2)
