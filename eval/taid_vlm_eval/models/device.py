"""Where a model runs when nobody says."""

import torch


def first_device() -> str:
    """The machine's first accelerator, else "cpu"."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator.type if accelerator is not None else "cpu"
