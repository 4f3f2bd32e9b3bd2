"""What identifies a model for a cache: its values as they are in memory, wherever they came from."""

import hashlib
import json
from typing import Any, Protocol

import torch
from torch import nn


class HasIdentity(Protocol):
    """A processor that can say what decides its ids."""

    def identity(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ...


def fingerprint(model: nn.Module, processor: HasIdentity) -> str:
    """Hash that changes with any weight, the template or the processing.

    The weights are read from the loaded model and not from its file: a student saved in its trained parts alone is
    completed from a base whose folder, layers and adapter scale decide the answers as well.
    """
    identity = json.dumps([weights_digest(model), processor.identity()], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def weights_digest(module: nn.Module) -> str:
    """Hash of all names and values of a module."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
