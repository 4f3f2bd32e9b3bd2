"""The scale of the loss in fp16 (arXiv 1710.03740): small gradients are kept from vanishing, and large ones tell by overflowing."""

import math
from typing import Any

import torch
from torch import Tensor


class LossScale:
    """PyTorch's ``GradScaler``, with the decision whether to step left to the loop.

    The loop looks at loss and norm over all processes, so that all of them step or none; a scaler would look at what
    its own process has.

    Attributes:
        skipped: steps that were not taken for the scale was too high.
    """

    def __init__(self, device: torch.device) -> None:
        self.scaler = torch.amp.GradScaler(device.type)
        self.skipped = 0

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to send backward."""
        scaled: Tensor = self.scaler.scale(loss)
        return scaled

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients, once before they are clipped."""
        self.scaler.unscale_(optimizer)

    def stepped(self, optimizer: torch.optim.Optimizer) -> None:
        """Step; after many of them the scale rises."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def left_out(self, overflowed: bool) -> bool:
        """Go on without a step; lower the scale if gradients overflowed.

        Returns:
            Whether that was the scale's doing; below 1 it is not, the gradients themselves are too large.
        """
        scale = self.scaler.get_scale()
        self.scaler.update(scale * self.scaler.get_backoff_factor() if overflowed else scale)
        if not overflowed:
            return False
        self.scaler.load_state_dict({**self.scaler.state_dict(), "_growth_tracker": 0})
        self.skipped += scale > 1
        return scale > 1

    def state_dict(self) -> dict[str, Any]:
        """Numbers alone."""
        return {"scaler": self.scaler.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""
        self.scaler.load_state_dict(state["scaler"])
        self.skipped = state["skipped"]


def overflowed(loss: float, norm: float) -> bool:
    """Whether gradients are not finite though the loss is."""
    return math.isfinite(loss) and not math.isfinite(norm)
