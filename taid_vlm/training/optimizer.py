"""AdamW with a learning rate for each part, and the schedule of the rates."""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from taid_vlm.models.student import Student
from taid_vlm.models.trained_parts import PARTS
from taid_vlm.recipe.schema import Recipe


def make_optimizer(student: Student, recipe: Recipe, temperature: nn.Module | None = None) -> torch.optim.AdamW:
    """Groups by part and by decay: matrices decay, vectors (norms, biases) do not.

    ``temperature`` is CTKD's: a group of its own, never decayed.
    """
    training = recipe.training
    groups = []
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
    return torch.optim.AdamW(groups, lr=training.lr, betas=training.betas)


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
