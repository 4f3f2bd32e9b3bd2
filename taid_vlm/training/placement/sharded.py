"""A teacher in shards over the processes of a run (``fully_shard``), gathered layer by layer when it is asked."""

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from taid_vlm.models.native.model import NativeModel
from taid_vlm.models.repeated import repeated_layers
from taid_vlm.models.teacher import TeacherModel
from taid_vlm.training.sharding import scalars

CLEAR_EVERY = 64


def shard_teacher(model: TeacherModel, device: torch.device, world: int) -> None:
    """Shard in place; each layer of language model and vision encoder is a unit, and so are the embeddings.

    The head is kept whole on every process: the loss reads it beside the model, in every micro-batch, where it must be
    whole anyway, so the peak would be the same if it were gathered each time, and its bytes would travel each time.
    Embeddings that are tied to it are the same tensor.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    head = set(model.head.parameters())
    kept = head | set(scalars(model))
    # A layer is freed after its forward, the root too: nothing comes back for a backward.
    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (world,)),
        "ignored_params": kept,
        "reshard_after_forward": True,
    }
    for unit in repeated_layers(model):
        fully_shard(unit, **options)
    embeddings = _embeddings(model)
    if not head & set(embeddings.parameters()):
        fully_shard(embeddings, **options)
    fully_shard(model, **options)
    for parameter in kept:
        parameter.data = parameter.data.to(device)
    register_fsdp_forward_method(model, "hidden")
    _forget_forwards(model)


def _embeddings(model: TeacherModel) -> nn.Module:
    owner: Any = model.native if isinstance(model, NativeModel) else model.language_model
    found: nn.Module = owner.get_input_embeddings()
    return found


def _forget_forwards(model: Any) -> None:
    """Have FSDP's list of forwards that wait for their backward emptied; of a frozen model it would grow for ever.

    Releases of PyTorch without ``reset_iter_state`` keep it: some tens of bytes a layer and forward.
    """
    if not hasattr(model, "reset_iter_state"):
        return
    hidden, count = model.hidden, 0

    def cleared(inputs: Any) -> torch.Tensor:
        nonlocal count
        found: torch.Tensor = hidden(inputs)
        count += 1
        if count % CLEAR_EVERY == 0:
            model.reset_iter_state()
        return found

    model.hidden = cleared
