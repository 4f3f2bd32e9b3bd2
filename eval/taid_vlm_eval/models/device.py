"""Where a model runs."""

import torch

from taid_vlm.common.errors import UserError


def first_device() -> str:
    """The machine's first accelerator, else "cpu"."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator.type if accelerator is not None else "cpu"


def choose_device(asked: str | None) -> str:
    """``asked``, tried out; the first device when nobody asked.

    Raises:
        UserError: no such device here.
    """
    if asked is None:
        return first_device()
    try:
        torch.empty(1, device=asked)
    # A build of torch without CUDA raises AssertionError, other devices NotImplementedError.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"device {asked!r} cannot be used: {reason}; this machine would take {first_device()!r}"
        ) from error
    return asked
