"""One of two processes that train a sharded student with options, or a process alone that trains it whole."""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from taid_vlm.models import build_student
from taid_vlm.models.student import ModelInputs, Student
from taid_vlm.recipe import Recipe, load_recipe
from taid_vlm.training.optimizer import make_optimizer
from taid_vlm.training.options import Options
from taid_vlm.training.sharding import shard


class Step(nn.Module):
    """What is sharded: hidden states are asked for inside of a forward."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.student.hidden(ModelInputs(ids, torch.ones_like(ids), torch.arange(ids.numel())))
        return (hidden * torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2))).sum() * 1e-2


def whole(value: Any) -> Any:
    """A state with all shards joined, apart from the run's."""
    if isinstance(value, dict):
        return {key: whole(entry) for key, entry in value.items()}
    if isinstance(value, DTensor):
        return value.full_tensor()
    return value.detach().clone() if isinstance(value, Tensor) else value


def trained(recipe: Recipe, world: int) -> dict[str, Any]:
    """Weights and state of the options after some steps, one of which overflows, and once more after a restart in the middle."""
    found = {}
    middle: dict[str, Any] = {}
    for name, first in (("through", 0), ("resumed", 3)):
        student = build_student(recipe.student)[0].train()
        if first:
            student.load_state_dict(middle["student"])
        options = Options(recipe, student, torch.device("cpu"))
        options.prepare_model()
        module: Any = Step(student)
        if world > 1:
            module = shard(module, "cpu", world, "fp32")
        options.begin()
        optimizer = make_optimizer(student, recipe)
        if first:
            options.load_state_dict(middle["options"])
        learning = [p for p in student.parameters() if p.requires_grad]
        for number in range(first, 5):
            if number == 3 and not first:
                middle = {"student": whole(student.state_dict()), "options": whole(options.state_dict())}
            if number == 3:  # the optimizer's own state is the checkpoint's business
                optimizer = make_optimizer(student, recipe)
            loss = module(torch.arange(12).view(2, 6) + number)
            options.scale(loss * (1e30 if number == 1 else 1.0) * (1e6 if number == 1 else 1.0)).backward()
            options.unscale(optimizer)
            norm: Any = torch.nn.utils.clip_grad_norm_(learning, 1.0)
            norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
            options.step(optimizer, 12.0, float(loss.detach()), norm)
            optimizer.zero_grad()
        found[name] = whole({"student": student.state_dict(), "options": options.state_dict()})
    return found


def main(recipe: str, output: str) -> None:
    """Train, and save what came of it."""
    accelerator = Accelerator(cpu=True)
    found = trained(load_recipe(recipe), accelerator.num_processes)
    torch.save(found, Path(output) / f"{accelerator.num_processes}-{accelerator.process_index}.pt")
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
