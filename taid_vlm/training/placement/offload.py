"""A teacher whose layers stay in the processor's memory and come to the accelerator one at a time (accelerate's hooks)."""

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.models.repeated import language_layers
from taid_vlm.models.teacher import TeacherModel


def offload_layers(model: TeacherModel, device: torch.device) -> None:
    """Keep the language model's decoder layers on the CPU, in place; all else (embeddings, head, vision encoder) moves to ``device``.

    A layer is copied before its forward and freed after it, so ``device`` holds one layer at a time.

    Raises:
        UserError: a language model without a list of layers.
    """
    layers = language_layers(model)
    if not layers:
        raise UserError(
            "teacher.placement: offload goes layer by layer, and the teacher has no list of layers; set placement: sharded"
        )
    inside = {id(t) for layer in layers for t in (*layer.parameters(), *layer.buffers())}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in inside:
                parameter.data = parameter.data.to(device)
        for name, buffer in list(module.named_buffers(recurse=False)):
            if id(buffer) not in inside:
                setattr(module, name, buffer.to(device))
    for layer in layers:
        weights = {name: _pinned(parameter.data, device) for name, parameter in layer.named_parameters()}
        hook = AlignDevicesHook(execution_device=device, offload=True, weights_map=weights, place_submodules=True)
        add_hook_to_module(layer, hook)


def _pinned(weight: Tensor, device: torch.device) -> Tensor:
    """In memory from which a GPU copies several times faster."""
    return weight.pin_memory() if device.type == "cuda" else weight
