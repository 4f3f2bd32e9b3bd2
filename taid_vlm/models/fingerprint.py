"""What identifies a model for a cache: its values as they are in memory, wherever they came from, and how they are run."""

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


# Of a config: where it came from, and what the weights tell themselves.
PASSING = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}


def fingerprint(model: nn.Module, processor: HasIdentity, parts: Any = None) -> str:
    """Hash that changes with any weight, any setting of the forward, the template or the processing.

    Args:
        parts: plain values for JSON: what else decides the forward of a model that is put together of several libraries.

    The weights are read from the loaded model and not from its file: a student saved in its trained parts alone is
    completed from a base whose folder, layers and adapter scale decide the answers as well.
    """
    about = [weights_digest(model), settings_of(model), parts, processor.identity()]
    identity = json.dumps(about, sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def weights_digest(module: nn.Module) -> str:
    """Hash of all names and values of a module."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def settings_of(model: nn.Module) -> list[Any]:
    """Configs of all modules that have one, by name: frequencies, norms, scalings and the layer that is read are in no weight."""
    found: dict[int, list[Any]] = {}
    for name, module in model.named_modules():
        config: Any = getattr(module, "config", None)
        if id(config) not in found and hasattr(config, "to_json_string"):
            found[id(config)] = [name, _lasting(json.loads(config.to_json_string(use_diff=False)))]
    return list(found.values())


def _lasting(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _lasting(value) for key, value in content.items() if key not in PASSING}
    return [_lasting(value) for value in content] if isinstance(content, list) else content
