"""Trains recipes one after the other in the processes it is started in, and writes down what each optimizer step saw.

    torchrun --nproc_per_node=2 -m tests.training.splits_worker FOLDER STRATEGY/NAME ...

trains ``FOLDER/NAME.yaml`` under a strategy into ``FOLDER/STRATEGY-WORLD-NAME``.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from taid_vlm.common.files import write_atomic
from taid_vlm.recipe import load_recipe
from taid_vlm.training import loop
from taid_vlm.training.distribution import Distribution


def train_watched(folder: Path, name: str, strategy: str) -> Path:
    """Train, with the gradients of the first step in ``gradients.pt`` and each process's t in ``t-RANK.json``."""
    os.environ |= {"ACCELERATE_USE_FSDP": str(strategy == "fsdp2").lower(), "FSDP_VERSION": "2"}
    os.environ |= {"ACCELERATE_USE_DEEPSPEED": str(strategy.startswith("zero")).lower()}
    if strategy.startswith("zero"):
        os.environ |= deepspeed_settings(strategy, folder)
    run_dir = folder / f"{strategy}-{os.environ.get('WORLD_SIZE', '1')}-{name}"
    path: list[float] = []
    clip = Distribution.clip

    def watched(self: Distribution, parameters: Any, max_norm: float) -> float:
        parameters = list(parameters)
        if not path:
            gradients = [gradient_of(self, parameter) for parameter in parameters]
            if self.main:
                torch.save([gradient.clone() for gradient in gradients], run_dir / "gradients.pt")
        path.append(runs[-1].setup.clock.t)
        return clip(self, parameters, max_norm)

    runs: list[Any] = []
    start = loop._Run.__init__

    def kept(self: Any, *arguments: Any) -> None:
        start(self, *arguments)
        runs.append(self)
        assert self.distribution.strategy == strategy

    Distribution.clip, loop._Run.__init__ = watched, kept  # type: ignore[method-assign]
    try:
        loop.train(load_recipe(str(folder / f"{name}.yaml")), run_dir)
    finally:
        Distribution.clip, loop._Run.__init__ = clip, start  # type: ignore[method-assign]
    (run_dir / f"t-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(path))
    return run_dir


def gradient_of(distribution: Distribution, parameter: torch.nn.Parameter) -> Any:
    """The whole gradient of a parameter."""
    if not distribution.strategy.startswith("zero"):
        return distribution.whole(parameter.grad)
    from deepspeed.utils import safe_get_full_grad

    return safe_get_full_grad(parameter).cpu()


def deepspeed_settings(strategy: str, folder: Path) -> dict[str, str]:
    """Of accelerate, with shards also of parameters as small as the tests' are, which DeepSpeed would keep whole."""
    config = {
        "zero_optimization": {"stage": int(strategy[-1]), "stage3_param_persistence_threshold": 0},
        "train_micro_batch_size_per_gpu": "auto",
    }
    write_atomic(folder / f"{strategy}.json", json.dumps(config))  # each process writes it
    return {"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(folder / f"{strategy}.json")}


if __name__ == "__main__":
    Accelerator.end_training = lambda self: None  # type: ignore[method-assign]  # it would end the processes' group
    for asked in sys.argv[2:]:
        strategy, name = asked.split("/")
        train_watched(Path(sys.argv[1]), name, strategy)
