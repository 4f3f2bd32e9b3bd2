"""A projector that does not start at random: its parameters from a file."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve


@torch.no_grad()
def load_projector(projector: nn.Module, weights: str) -> None:
    """Fill ``projector`` from a safetensors file of its own names.

    Raises:
        UserError: no such file, or one that does not fit.
    """
    path = Path(resolve(weights)).expanduser()
    if not path.is_file():
        raise UserError(f"projector weights not found: {path}; give a safetensors file, or 'random'")
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    own = projector.state_dict()
    missing, surplus = sorted(set(own) - set(found)), sorted(set(found) - set(own))
    wrong = [name for name in own if name in found and own[name].shape != found[name].shape]
    if missing or surplus or wrong:
        raise UserError(
            f"{path} does not fit the projector: {len(missing)} parameters missing {missing[:3]}, {len(surplus)} unknown {surplus[:3]}, "
            f"{len(wrong)} of another shape {wrong[:3]}"
        )
    for name, tensor in found.items():
        own[name].copy_(tensor)
