"""The options of training that stand around a step, behind one interface for the loop."""

import math
from typing import Any

import torch
from torch import Tensor

from taid_vlm.models.student import Student
from taid_vlm.recipe.schema import Recipe
from taid_vlm.training.ema import WeightAverage
from taid_vlm.training.layer_options import wrap_layers
from taid_vlm.training.loss_scale import LossScale, overflowed


class Options:
    """In the order in which the loop calls them: ``prepare_model`` before the student is distributed, ``begin`` after;
    then ``scale``, ``unscale``, ``step``. Its state goes into the checkpoint.

    Attributes:
        overflowed: whether the last step was left out because the scale of the loss was too high: no mishap, it is lower now.
    """

    def __init__(self, recipe: Recipe, student: Student, device: torch.device) -> None:
        self.training, self.student, self.device = recipe.training, student, device
        self.loss_scale = LossScale(device) if recipe.training.precision == "fp16" else None
        self.average: WeightAverage | None = None
        self.overflowed = False

    def prepare_model(self) -> list[str]:
        """Gradient checkpointing, compilation and activation offload, in place; returns notes for people.

        Raises:
            UserError: an option that cannot work here.
        """
        return wrap_layers(self.student, self.training, self.device)

    def begin(self) -> None:
        """Start the average of the weights, which are where they will be trained."""
        if self.training.ema is not None:
            self.average = WeightAverage(self.student, self.training.ema)

    def scale(self, loss: Tensor) -> Tensor:
        """What to call ``backward`` of."""
        return loss if self.loss_scale is None else self.loss_scale.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Undo ``scale`` on the gradients; once a step, after the last backward and before clipping."""
        if self.loss_scale is not None:
            self.loss_scale.unscale(optimizer)

    def step(self, optimizer: torch.optim.Optimizer, rows: float, loss: float, norm: float) -> bool:
        """Step if loss and gradient norm, those of all processes, are finite; returns whether it stepped."""
        sound = rows > 0 and math.isfinite(loss) and math.isfinite(norm)
        self.overflowed = False
        if sound and self.loss_scale is None:
            optimizer.step()
        elif sound and self.loss_scale is not None:
            self.loss_scale.stepped(optimizer)
        elif self.loss_scale is not None:
            self.overflowed = self.loss_scale.left_out(rows > 0 and overflowed(loss, norm))
        if sound and self.average is not None:
            self.average.update()
        return sound

    def figures(self) -> dict[str, float]:
        """For the log."""
        if self.loss_scale is None:
            return {}
        return {"loss_scale": self.loss_scale.scaler.get_scale(), "overflowed": float(self.loss_scale.skipped)}

    def state_dict(self) -> dict[str, Any]:
        """Tensors (sharded as the student is) and plain numbers."""
        parts = {"loss_scale": self.loss_scale, "average": self.average}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back; tensors are whole ones."""
        if self.loss_scale is not None:
            self.loss_scale.load_state_dict(state["loss_scale"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
