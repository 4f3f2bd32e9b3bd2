"""Forward and backward of a micro-batch on fake tensors: the peak of live memory by label, and the arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from taid_vlm.models.student import Student
from taid_vlm.planning.fake import DEVICE, BatchShape, fake_inputs, fake_mode, make_fake
from taid_vlm.planning.loss_memory import LossBuffers, StandIn
from taid_vlm.planning.tracker import LiveStorages

WEIGHTS, GRADIENTS, ACTIVATIONS, LOSS, BATCH = "weights", "gradients", "activations", "loss", "batch"


@dataclass(frozen=True)
class Trace:
    """What a run on fake tensors showed.

    Attributes:
        peak: bytes at the highest moment, weights included. at_peak: the same by label.
        flops: of the whole. kept: bytes that are still alive when it is over.
    """

    peak: int
    flops: int
    at_peak: dict[str, int] = field(default_factory=dict)

    def of(self, label: str) -> int:
        """Bytes under ``label`` at the peak."""
        return self.at_peak.get(label, 0)


def trace_training(
    student: Student, shape: BatchShape, loss: LossBuffers, *, bf16: bool, cached_features: bool, micro_batches: int
) -> Trace:
    """Forward, loss and backward of the student, as often as changes anything (twice: the second time gradients are there).

    Args:
        student: on the meta device; it is made fake in place.
        micro_batches: of an optimizer step.
    """
    mode = fake_mode()
    make_fake(student, mode)
    student.train()
    tracker = LiveStorages(_scalars(shape))
    tracker.hold([*student.parameters(), *student.buffers()], WEIGHTS)

    def relabel(parameter: Tensor) -> None:
        if parameter.grad is not None:
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
