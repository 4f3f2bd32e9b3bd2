"""Two processes, one of which has a micro-batch without pictures: neither waits, and the result is that of one process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from taid_vlm.data import StepOrder, read_records
from taid_vlm.recipe import Recipe, dump_recipe
from taid_vlm.training import train
from tests.tiny.recipes import logged_steps, tiny_recipe
from tests.tiny.vision import save_tiny_transformers

TRAINING: dict[str, Any] = {"steps": 6, "batch_size": 2, "lr": 5e-3, "precision": "fp32", "trackers": []}


def write_mixed(folder: Path) -> Path:
    """Every other sample has a picture, so that a step of two samples on two processes has all four cases soon."""
    folder.mkdir()
    lines = []
    for index in range(8):
        asked: Any = f"what is {index}?" + " and so on" * (index % 3)
        row: dict[str, Any] = {"images": []}
        if index % 2:
            Image.new("RGB", (16, 16), (30 * index, 20, 200)).save(folder / f"{index}.png")
            asked, row = [{"type": "image"}, {"type": "text", "text": asked}], {"images": [f"{index}.png"]}
        row["messages"] = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"it is {index}"}]
        lines.append(json.dumps(row))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def recipe(language_model: Path, folder: Path, mode: str, batching: str) -> Recipe:
    """An encoder with a pooling head, which its features never reach."""
    base = tiny_recipe(language_model, folder).model_dump()
    encoder = save_tiny_transformers(folder / "encoder", "siglip")
    base["student"]["vision_encoder"] = {"library": "transformers", "name": str(encoder), "image_size": 32}
    base["student"]["train"]["vision_encoder"] = {"mode": mode, "lr": 1e-3}
    data = {"train": [{"kind": "jsonl", "path": str(write_mixed(folder / "mixed"))}], "batching": batching}
    return Recipe.model_validate({**base, "data": data, "training": TRAINING, "loss": {"name": "sft", "mass_rows": 0}})


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "batching"), [("full", "padded"), ("frozen", "packed")])
def test_a_process_without_pictures_does_not_stop_the_other(
    tmp_path: Path, language_model: Path, mode: str, batching: str
) -> None:
    wanted = recipe(language_model, tmp_path, mode, batching)
    records = read_records(wanted.data.train, wanted.seed)
    order = list(StepOrder(len(records), 2, 2, wanted.seed, 0, TRAINING["steps"]))
    assert any(len(records[a].images) != len(records[b].images) for a, b in order)
    (tmp_path / "two.yaml").write_text(dump_recipe(wanted))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = [*launcher, "taid_vlm", "train", "two.yaml", "--output", "two"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    train(wanted, tmp_path / "one")
    for left, right in zip(logged_steps(tmp_path / "one"), logged_steps(tmp_path / "two"), strict=True):
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert right[name] == pytest.approx(value, rel=2e-4, abs=1e-6), name
