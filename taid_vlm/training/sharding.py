"""FSDP2: parameters, gradients and optimizer state in equal shards over the processes (arXiv 2304.11277; ``fully_shard``)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor

from taid_vlm.models.repeated import repeated_layers


def shard(module: nn.Module, device: str, world: int, precision: str) -> nn.Module:
    """Shard in place: each repeated layer is a unit, gathered when it is run; the rest (embeddings, norms, head) is the root's.

    The root stays gathered from its forward to its backward, so a head that the loss reads in the forward is gathered once.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # In bf16 half of a layer's bytes travel, and gradients are summed in fp32. Embeddings stay in fp32, and so does the
    # sum that runs through the layers, as autocast has it without shards.
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    options: dict[str, Any] = {"mesh": init_device_mesh(device, (world,)), "ignored_params": set(scalars(module))}
    for unit in repeated_layers(module):
        halved = precision == "bf16" and not (device == "cpu" and _has_layer_norm(unit))
        fully_shard(unit, **options, mp_policy=half if halved else MixedPrecisionPolicy())
    fully_shard(module, **options)
    return module


def scalars(module: nn.Module) -> list[nn.Parameter]:
    """Parameters without a dimension, which cannot be sharded: every process keeps them."""
    return [parameter for parameter in module.parameters() if parameter.ndim == 0]


def shard_like(like: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor as the shard that ``like`` is; itself where ``like`` is none. Nothing is sent."""
    if not isinstance(like, DTensor):
        return whole
    moved = whole.to(device=like.device, dtype=like.dtype)
    shard = distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None)
    return torch.empty_like(like).copy_(shard)  # in some releases it is a view, which would keep the whole


def shard_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A state dict of whole tensors with those of sharded parameters sharded as they are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    sharded = {
        index: {
            # A copy, for the one that was read may be a mapped file.
            name: _own(parameters[index], value) if isinstance(value, Tensor) else value
            for name, value in entry.items()
        }
        for index, entry in state["state"].items()
    }
    return {**state, "state": sharded}


def _own(parameter: Tensor, state: Tensor) -> Tensor:
    return shard_like(parameter, state.clone()) if state.shape == parameter.shape else state.clone()


def _has_layer_norm(module: nn.Module) -> bool:
    # A CPU's layer norm takes no bf16 weights with fp32 states; a GPU's autocast makes fp32 of both.
    return any(isinstance(part, nn.LayerNorm) for part in module.modules())
