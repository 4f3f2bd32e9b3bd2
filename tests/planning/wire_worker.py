"""Counts what collectives of one micro-batch carry, in the processes it is started in, and what the plan says of them.

    torchrun --nproc_per_node=2 -m tests.planning.wire_worker FOLDER ddp|fsdp2 fp32|bf16

FOLDER holds ``recipe.yaml``. Each process writes ``RANK.json``.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from taid_vlm.losses import LossSpec
from taid_vlm.models.assemble import build_student
from taid_vlm.models.student import ModelInputs
from taid_vlm.planning.strategies import STRATEGIES
from taid_vlm.planning.units import units_of
from taid_vlm.planning.wire import student_traffic
from taid_vlm.recipe import load_recipe
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.step import DistillationStep


class Carried(TorchDispatchMode):
    """Bytes of each collective: of what is gathered, or of what is summed."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if name.startswith("c10d."):
            sizes = [t.numel() * t.element_size() for t in tree_leaves(args) if isinstance(t, Tensor)]
            kind = (
                "gather"
                if "gather" in name
                else "scatter"
                if "scatter" in name
                else "sum"
                if "allreduce" in name
                else ""
            )
            if kind:
                # Both sides are among the arguments: the whole and a share of it. A sum is in place.
                self.bytes[kind] += sum(sizes) if kind == "sum" else max(sizes)
        return func(*args, **(kwargs or {}))


def main(folder: Path, strategy: str, precision: str) -> None:
    """One forward and backward."""
    os.environ |= {"ACCELERATE_USE_FSDP": str(strategy == "fsdp2").lower(), "FSDP_VERSION": "2"}
    distribution = Distribution(Accelerator(cpu=True))
    assert distribution.strategy == strategy
    recipe = load_recipe(str(folder / "recipe.yaml"))
    student, _ = build_student(recipe.student)
    units = units_of(student)
    planned = student_traffic(STRATEGIES.get(strategy), units, distribution.world, 1, precision == "bf16")
    module = distribution.wrap(DistillationStep(student, LossSpec.of("sft"), None, recipe.loss), precision)
    module.train()
    ids, pixels = torch.full((2, 128), 5), None
    if student.projector is not None:
        ids[:, 1 : 1 + student.projector.tokens_out()] = student.image_token_id or 0  # type: ignore[operator]
        pixels = torch.zeros(2, 3, 160, 160)
    inputs = ModelInputs(ids, torch.ones_like(ids), torch.arange(20), pixels)
    with Carried() as carried, distribution.micro_batch(module, last=True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            output = module(inputs, torch.full((20,), 5), 0.5)
        output.loss.backward()
    (folder / f"{distribution.rank}.json").write_text(json.dumps({"carried": carried.bytes, "planned": planned}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
