"""Ways to run a student's layers that change the memory of a step, set up for a trace on fake tensors and taken back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from taid_vlm.models.repeated import language_layers, learns_statistics, vision_layers
from taid_vlm.models.student import Student
from taid_vlm.planning.fake import DEVICE, make_fake

SMALL = 2**16  # as in training/layer_options.py: elements below which a tensor stays


@dataclass(frozen=True)
class Running:
    """How the student is run, as far as it changes the memory of its forward and backward.

    Attributes:
        checkpointing: layers keep their inputs alone, and are run again in the backward.
        offload: what layers keep for the backward waits in the processor's memory.
        half: names of parameters that are in bf16 when they are used, as gathered ones are.
        leaving: names of parameters whose gradients leave as soon as they are there, to be summed elsewhere.
    """

    checkpointing: bool = False
    offload: bool = False
    half: frozenset[str] = frozenset()
    leaving: frozenset[str] = frozenset()


@contextmanager
def run_as(student: Student, mode: FakeTensorMode, running: Running) -> Iterator["Away"]:
    """Make the student fake and run it so; afterwards its dtypes and layers are as before."""
    before = {name: parameter.dtype for name, parameter in student.named_parameters()}
    half = {id(p): torch.bfloat16 for name, p in student.named_parameters() if name in running.half}
    make_fake(student, mode, half)
    layers = trained_layers(student) if running.checkpointing or running.offload else []
    away = Away()
    for layer in layers:
        forward = _checkpointed(layer.forward) if running.checkpointing else layer.forward
        layer.forward = away.offloaded(forward) if running.offload else forward
    try:
        yield away
    finally:
        for layer in layers:
            del layer.forward
        make_fake(student, mode, {id(p): before[name] for name, p in student.named_parameters()})


def trained_layers(student: Student) -> list[nn.Module]:
    """Layers of the language model, and of a vision encoder that learns; one with batch norm is run once only."""
    found = language_layers(student)
    encoder = student.vision_encoder
    if encoder is not None and any(p.requires_grad for p in encoder.parameters()):
        found += [layer for layer in vision_layers(student) if not learns_statistics(layer)]
    return found


class Away:
    """Counts the bytes that wait elsewhere."""

    def __init__(self) -> None:
        self.bytes = 0

    def offloaded(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """``forward``, whose saved tensors are dropped, and made anew when the backward asks for them."""

        def run(*args: Any, **kwargs: Any) -> Any:
            with torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack):
                return forward(*args, **kwargs)

        return run

    def _pack(self, tensor: Tensor) -> Any:
        base = tensor if tensor._base is None else tensor._base
        if tensor.numel() < SMALL or isinstance(base, nn.Parameter):
            return tensor
        self.bytes += tensor.nbytes
        return tensor.shape, tensor.dtype


def _unpack(packed: Any) -> Tensor:
    if isinstance(packed, Tensor):
        return packed
    shape, dtype = packed
    return torch.empty(shape, dtype=dtype, device=DEVICE)


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run
