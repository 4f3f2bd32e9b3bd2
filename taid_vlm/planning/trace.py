"""Forward and backward of a micro-batch on fake tensors: the peak of live memory by label, and the arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from taid_vlm.models.student import Student
from taid_vlm.planning.fake import DEVICE, BatchShape, fake_inputs, fake_mode, make_fake
from taid_vlm.planning.loss_memory import LossBuffers, StandIn
from taid_vlm.planning.running import Running, run_as
from taid_vlm.planning.tracker import LiveStorages

WEIGHTS, GRADIENTS, ACTIVATIONS, LOSS, BATCH = "weights", "gradients", "activations", "loss", "batch"


@dataclass(frozen=True)
class Trace:
    """What a run on fake tensors showed.

    Attributes:
        peak: bytes at the highest moment, weights included. at_peak: the same by label.
        flops: of the whole. away: bytes that waited in the processor's memory.
    """

    peak: int
    flops: int
    at_peak: dict[str, int] = field(default_factory=dict)
    away: int = 0

    def of(self, label: str) -> int:
        """Bytes under ``label`` at the peak."""
        return self.at_peak.get(label, 0)


def trace_training(
    student: Student,
    shape: BatchShape,
    loss: LossBuffers,
    *,
    bf16: bool,
    cached_features: bool,
    micro_batches: int,
    running: Running | None = None,
) -> Trace:
    """Forward, loss and backward of the student, as often as changes anything (twice: the second time gradients are there).

    Args:
        student: on the meta device; it is made fake in place.
        micro_batches: of an optimizer step.
        running: as usual when left out.
    """
    running = running or Running()
    mode = fake_mode()
    with run_as(student, mode, running) as away:
        trace = _trace_training(student, shape, loss, mode, running.leaving, bf16, cached_features, micro_batches)
    passes = min(2, micro_batches)
    return replace(trace, away=away.bytes // passes)


def _trace_training(
    student: Student,
    shape: BatchShape,
    loss: LossBuffers,
    mode: FakeTensorMode,
    leaving_names: frozenset[str],
    bf16: bool,
    cached_features: bool,
    micro_batches: int,
) -> Trace:
    student.train()
    leaving = {id(p) for name, p in student.named_parameters() if name in leaving_names}
    tracker = LiveStorages(_scalars(shape))
    tracker.hold([*student.parameters(), *student.buffers()], WEIGHTS)

    def relabel(parameter: Tensor) -> None:
        if parameter.grad is None:
            return
        if id(parameter) in leaving:
            parameter.grad = None
        else:
            tracker.hold([parameter.grad], GRADIENTS)

    hooks = [p.register_post_accumulate_grad_hook(relabel) for p in student.parameters() if p.requires_grad]
    flops = 0
    for _ in range(min(2, micro_batches)):
        tracker.flops = 0
        inputs = fake_inputs(shape, student, cached_features, mode)
        tracker.hold([t for t in vars(inputs).values() if isinstance(t, Tensor)], BATCH)
        with mode, tracker, tracker.label(ACTIVATIONS):
            with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=bf16):
                hidden = student.hidden(inputs)
                out = StandIn.apply(hidden, student.head.weight, student.head.bias, loss, tracker)
            del hidden
            out.backward()
        flops = tracker.flops
        del out, inputs
    for hook in hooks:
        hook.remove()
    student.zero_grad(set_to_none=True)
    return Trace(tracker.peak, flops, tracker.at_peak)


def trace_inference(module: nn.Module, run: Callable[[Any], Any], scalars: BatchShape, *, bf16: bool) -> Trace:
    """``run`` without gradients in evaluation mode, its inputs made inside; ``module`` is on the meta device."""
    mode = fake_mode()
    make_fake(module, mode)
    module.eval()
    tracker = LiveStorages(_scalars(scalars))
    tracker.hold([*module.parameters(), *module.buffers()], WEIGHTS)
    autocast = torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=bf16)
    with mode, tracker, tracker.label(ACTIVATIONS), torch.no_grad(), autocast:
        run(mode)
    return Trace(tracker.peak, tracker.flops, tracker.at_peak)


def _scalars(shape: BatchShape) -> Callable[[Tensor], bool | int]:
    """The forward asks two things of its values: whether all is so (never, in a padded batch), and how many placeholders."""
    return lambda tensor: False if tensor.dtype == torch.bool else shape.image_tokens
