"""An average of the trained weights over the steps, with more weight on late ones (Polyak averaging; arXiv 1806.05594)."""

from typing import Any

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.models.assemble import build_student
from taid_vlm.models.student import Student
from taid_vlm.models.trained_parts import trained_state
from taid_vlm.recipe.schema import Recipe
from taid_vlm.training.sharding import shard_like


class WeightAverage:
    """``average = d * average + (1 - d) * weights`` in fp32 after every step, with ``d = min(decay, (1 + n) / (10 + n))``
    at step ``n``: a projector that begins at random is soon forgotten, also in a short run.

    Sharded weights have a sharded average. Buffers (batch norm) are statistics already: the last ones are taken.
    """

    def __init__(self, student: Student, decay: float) -> None:
        self.student, self.decay, self.updates = student, decay, 0
        self.weights = {name: _copy(tensor) for name, tensor in trained_state(student).items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        self.updates += 1
        rest = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, tensor in trained_state(self.student).items():
            average = self.weights[name]
            if tensor.requires_grad:
                average.add_(tensor.detach().float() - average, alpha=rest)
            else:
                average.copy_(tensor)

    def state_dict(self) -> dict[str, Any]:
        """Averages by name, and how many weights they are of."""
        return {"updates": self.updates, "weights": dict(self.weights)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back; whole tensors are sharded as the weights are.

        Raises:
            UserError: of another student.
        """
        if set(state["weights"]) != set(self.weights):
            raise UserError("the average of the weights in the checkpoint is of another student; start the run again")
        self.updates = state["updates"]
        for name, average in self.weights.items():
            average.copy_(shard_like(average, state["weights"][name]))


@torch.no_grad()
def averaged_student(recipe: Recipe, weights: dict[str, Tensor]) -> Student:
    """The student of a recipe with averaged weights (whole ones, by name) in place of the trained.

    It is built anew, for saving the trained student merges adapters into it.
    """
    student, _ = build_student(recipe.student, recipe.seed)
    for name, tensor in trained_state(student).items():
        tensor.copy_(weights[name])
    return student


def _copy(tensor: Tensor) -> Tensor:
    copy = tensor.detach().clone()
    return copy.float() if tensor.requires_grad else copy
