"""Options on a student in shards: the weights, the average and the scale of a student that is whole, also after a restart."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from taid_vlm.recipe import Recipe, dump_recipe
from tests.tiny.recipes import tiny_recipe
from tests.training.options_worker import main as train_alone


def flat(state: Any, name: str = "") -> dict[str, Any]:
    if isinstance(state, dict):
        return {key: value for part, entry in state.items() for key, value in flat(entry, f"{name}/{part}").items()}
    return {name: state}


@pytest.mark.slow
def test_options_on_sharded_weights_are_those_on_whole_ones(
    tmp_path: Path, language_model: Path, easy_vqa: Path
) -> None:
    options = {"precision": "fp16", "ema": 0.8, "gradient_checkpointing": True}
    content = tiny_recipe(language_model, easy_vqa).model_dump()
    content["training"] |= options
    content["student"] = {"language_model": {"source": str(language_model)}}
    content["data"]["cache_image_features"] = False
    (tmp_path / "recipe.yaml").write_text(dump_recipe(Recipe.model_validate(content)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = [*launcher, "tests.training.options_worker", str(tmp_path / "recipe.yaml"), str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, [line for line in done.stderr.splitlines() if "[rank0]" in line][-8:]
    train_alone(str(tmp_path / "recipe.yaml"), str(tmp_path))
    alone, *shared = (torch.load(tmp_path / f"{one}.pt", weights_only=True) for one in ("1-0", "2-0", "2-1"))
    assert alone["through"]["options"]["loss_scale"]["skipped"] == 1
    for found in (alone, *shared):
        through, resumed = flat(found["through"]), flat(found["resumed"])
        assert through.keys() == resumed.keys()
        for name, value in through.items():
            assert torch.equal(value, resumed[name]) if isinstance(value, Tensor) else value == resumed[name], name
    expected = flat(alone["through"])
    for found in shared:
        for name, value in flat(found["through"]).items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=2e-6, msg=name)
            else:
                assert value == expected[name], name
