"""Options that change how layers are run, not what they compute: gradient checkpointing (arXiv 1604.06174), compilation, and
activations in the processor's memory.

Each replaces a layer's ``forward``, so that hooks (of sharding, for one) stay outside of it and parameter names as they were.
Libraries have switches of their own for some of this; those of transformers leave layers in evaluation mode alone, which is what
a frozen language model behind a projector that learns is in, and not every tower obeys them on the way to a block's output.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from taid_vlm.common.errors import UserError
from taid_vlm.models.repeated import language_layers, learns_statistics, vision_layers
from taid_vlm.models.student import Student
from taid_vlm.recipe.training_spec import TrainingSpec

Forward = Callable[..., Any]
SMALL = 2**16  # elements below which a tensor is not worth a copy


def wrap_layers(student: Student, training: TrainingSpec, device: torch.device) -> list[str]:
    """Set the options up, in place; returns notes for people.

    Raises:
        UserError: a language model without a list of layers, or no compiler.
    """
    notes: list[str] = []
    offload = training.activation_offload and device.type != "cpu"
    if training.activation_offload and not offload:
        notes.append("training.activation_offload does nothing on a CPU: activations are in its memory already")
    if not (training.gradient_checkpointing or training.compile or offload):
        return notes
    layers = language_layers(student)
    if not layers:
        raise UserError(
            f"training.gradient_checkpointing, activation_offload and compile go layer by layer, and "
            f"{type(student.language_model).__name__} has no list of layers; leave them out"
        )
    if training.compile:
        check_compiler(device)
        for layer in layers:
            # One compiled function serves all layers of a kind, and all lengths.
            layer.forward = torch.compile(layer.forward, dynamic=True)
    if student.vision_encoder is not None and any(p.requires_grad for p in student.vision_encoder.parameters()):
        layers = layers + vision_layers(student)
    checkpoints = training.gradient_checkpointing
    skipped = [layer for layer in layers if checkpoints and learns_statistics(layer)]
    for layer in layers:
        forward: Forward = checkpointed(layer.forward) if checkpoints and layer not in skipped else layer.forward
        layer.forward = offloaded(forward, device) if offload else forward
    if skipped:
        notes.append(
            f"training.gradient_checkpointing leaves out {len(skipped)} blocks with batch norm, which would see each batch twice"
        )
    return notes


def checkpointed(forward: Forward) -> Forward:
    """``forward``, which in training keeps its inputs alone and is run again in the backward, with the same dropout."""

    @functools.wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run


def offloaded(forward: Forward, device: torch.device) -> Forward:
    """``forward``, whose activations wait for the backward in the processor's memory; weights stay where they are."""
    pinned = device.type == "cuda"

    def pack(tensor: Tensor) -> Tensor | tuple[torch.device, Tensor]:
        if tensor.numel() < SMALL or _is_weight(tensor):
            return tensor
        kept = torch.empty_like(tensor, device="cpu", pin_memory=pinned)
        kept.copy_(tensor, non_blocking=pinned)
        return tensor.device, kept

    def unpack(packed: Tensor | tuple[torch.device, Tensor]) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        return packed[1].to(packed[0], non_blocking=pinned)

    @functools.wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return forward(*args, **kwargs)

    return run


def check_compiler(device: torch.device) -> None:
    """Compile something small.

    Raises:
        UserError: no compiler, or one that does not work.
    """

    def probe(x: Tensor) -> Tensor:
        return (x * 2 + 1).sin()

    try:
        torch.compile(probe, dynamic=True)(torch.ones(8, device=device))
    except Exception as error:  # whatever a compiler and its tools raise
        needed = "Triton and a C compiler" if device.type == "cuda" else "a C++ compiler (g++ or clang++)"
        raise UserError(
            f"training.compile needs {needed} on {device.type}, and compiling a line failed: {str(error).strip().splitlines()[0]}. "
            f"Install it, or leave training.compile out"
        ) from error


def _is_weight(tensor: Tensor) -> bool:
    base = tensor if tensor._base is None else tensor._base
    return isinstance(base, nn.Parameter)
