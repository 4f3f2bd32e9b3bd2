"""Planned bytes on the wire against those that the collectives of two processes carry."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.recipe import dump_recipe
from tests.tiny.language_model import save_tiny_llama
from tests.tiny.recipes import tiny_recipe

WORLD = 2
MODES: dict[str, dict[str, Any]] = {"frozen encoder": {}, "all learn": {"vision_encoder": {"mode": "full"}}}


def carried(
    folder: Path, easy_vqa: Path, strategy: str, precision: str, train: dict[str, Any], sees: bool = True
) -> dict[str, Any]:
    llama = save_tiny_llama(folder / "llama", layers=4, hidden=64)
    content = tiny_recipe(llama, easy_vqa).model_dump()
    content["student"]["vision_encoder"] |= {"name": "test_vit", "image_size": 160}
    content["student"]["language_model"]["layers"] = None
    content["student"]["train"] = train
    content["data"]["cache_image_features"] = False
    if not sees:
        content["student"] |= {"vision_encoder": None, "projector": None, "image_token": None}
    (folder / "recipe.yaml").write_text(dump_recipe(type(tiny_recipe(llama, easy_vqa)).model_validate(content)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={WORLD}", "-m"]
    command = [*launcher, "tests.planning.wire_worker", str(folder), strategy, precision]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD))
    assert first == second
    return dict(first)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_fsdp2(tmp_path: Path, easy_vqa: Path, mode: str) -> None:
    compare(carried(tmp_path, easy_vqa, "fsdp2", "fp32", MODES[mode]))


@pytest.mark.slow
def test_fsdp2_in_bf16(tmp_path: Path, easy_vqa: Path) -> None:
    # Of words alone: a CPU's layer norm takes no input in fp32 with weights in bf16, which a GPU's autocast never gives it.
    compare(carried(tmp_path, easy_vqa, "fsdp2", "bf16", {}, sees=False))


def compare(found: dict[str, Any]) -> None:
    """A shard is padded to whole rows, so a little more travels."""
    planned, counted = found["planned"], found["carried"]
    assert planned["weights"] == pytest.approx(counted["gather"] * (WORLD - 1) / WORLD, rel=0.02)
    assert planned["gradients"] == pytest.approx(counted["scatter"] * (WORLD - 1) / WORLD, rel=0.02)


@pytest.mark.slow
def test_ddp(tmp_path: Path, easy_vqa: Path) -> None:
    found = carried(tmp_path, easy_vqa, "ddp", "fp32", MODES["frozen encoder"])
    assert found["planned"]["gradients"] == pytest.approx(2 * found["carried"]["sum"] * (WORLD - 1) / WORLD, rel=0.02)
