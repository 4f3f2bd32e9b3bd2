"""The optimizer with a learning rate for each part, and the schedule of the rates."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR

from taid_vlm.common.errors import UserError
from taid_vlm.common.registry import Registry
from taid_vlm.models.student import Student
from taid_vlm.models.trained_parts import PARTS
from taid_vlm.recipe.schema import Recipe
from taid_vlm.recipe.training_spec import TrainingSpec

Groups = list[dict[str, Any]]
OPTIMIZERS: Registry[Callable[[Groups, TrainingSpec], torch.optim.Optimizer]] = Registry("optimizer")
FUSED_DEVICES = ("cpu", "cuda")


def make_optimizer(student: Student, recipe: Recipe, temperature: nn.Module | None = None) -> torch.optim.Optimizer:
    """Groups by part and by decay: matrices decay, vectors (norms, biases) do not.

    ``temperature`` is CTKD's: a group of its own, never decayed.

    Raises:
        UserError: an optimizer whose package is missing, or that does not work with these parameters.
    """
    training = recipe.training
    groups: Groups = []
    for part in PARTS:
        module = getattr(student, part)
        if module is None:
            continue
        rate = getattr(recipe.student.train, part).lr or training.lr
        learning = [p for p in module.parameters() if p.requires_grad]
        for matrices, decay in ((True, training.weight_decay), (False, 0.0)):
            chosen = [p for p in learning if (p.ndim >= 2) == matrices]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay, "name": part})
    if temperature is not None:
        rate = recipe.loss.temperature.lr or training.lr
        groups.append(
            {"params": list(temperature.parameters()), "lr": rate, "weight_decay": 0.0, "name": "temperature"}
        )
    return OPTIMIZERS.get(training.optimizer)(groups, training)


@OPTIMIZERS.register("adamw")
def _adamw(groups: Groups, training: TrainingSpec) -> torch.optim.Optimizer:
    # A resumed run keeps the kernel that it began with: it is part of the optimizer's state.
    fused = training.fused_optimizer
    if fused is None:
        fused = all(p.device.type in FUSED_DEVICES for group in groups for p in group["params"])
    try:
        return torch.optim.AdamW(groups, lr=training.lr, betas=training.betas, fused=fused)
    except RuntimeError as error:
        raise UserError(f"training.fused_optimizer: {error}; leave it out, or set it to false") from error


@OPTIMIZERS.register("adamw_8bit")
def _adamw_8bit(groups: Groups, training: TrainingSpec) -> torch.optim.Optimizer:
    """Averages in blocks of 8-bit numbers (arXiv 2110.02861)."""
    _refuse_shards(groups, "adamw_8bit")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise UserError(
            "training.optimizer: adamw_8bit needs a package: pip install bitsandbytes, or set optimizer: adafactor, which needs none"
        ) from error
    made: torch.optim.Optimizer = AdamW8bit(groups, lr=training.lr, betas=training.betas)
    return made


@OPTIMIZERS.register("adafactor")
def _adafactor(groups: Groups, training: TrainingSpec) -> torch.optim.Optimizer:
    """Second moments of a matrix as a row and a column, no first ones (arXiv 1804.04235)."""
    _refuse_shards(groups, "adafactor")
    return torch.optim.Adafactor(groups, lr=training.lr)


def _refuse_shards(groups: Groups, name: str) -> None:
    """Refuse shards of weights for an optimizer that must see a matrix whole."""
    if any(isinstance(p, DTensor) for group in groups for p in group["params"]):
        raise UserError(
            f"training.optimizer: {name} does not work on weights in shards (fsdp2); set adamw, whose averages are in shards too"
        )


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe) -> LambdaLR:
    """Linear warm-up, then a half cosine to zero, or constant."""
    training = recipe.training

    def factor(step: int) -> float:
        if step < training.warmup_steps:
            return (step + 1) / (training.warmup_steps + 1)
        if training.schedule == "constant":
            return 1.0
        done = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return LambdaLR(optimizer, factor)
