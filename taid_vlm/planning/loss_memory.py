"""The memory of the fused loss, as ``losses/chunks.py`` takes it, without its arithmetic.

The loss looks at values (is this tile finite?), so it cannot run on fake tensors. What it allocates follows from shapes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from taid_vlm.losses import LossSpec
from taid_vlm.losses.chunks import TILE_BUFFERS, plan, plan_chunk, usual_bytes
from taid_vlm.losses.inputs import Head, LossInputs
from taid_vlm.planning.tracker import LiveStorages


@dataclass(frozen=True)
class LossBuffers:
    """Sizes of the loss at the answer rows of one micro-batch.

    Attributes:
        rows: R. chunk_rows, tile_rows: rows whose logits exist at a time, and rows that are worked on in a tile.
        student: V, H of the student's head. teacher: rows and width of the teacher's head as stored, or None.
        shared: columns that both have.
        tile_buffers: how many [tile_rows, shared] of fp32; 0 where a kernel does the work.
        compute: dtype of the products.
    """

    rows: int
    chunk_rows: int
    tile_rows: int
    student: tuple[int, int]
    teacher: tuple[int, int] | None
    shared: int
    tile_buffers: int
    compute: torch.dtype

    @property
    def chunk_bytes(self) -> int:
        """Logits of a chunk of both models, and the buffers of a tile."""
        columns = self.student[0] + (self.shared if self.teacher else 0)
        return self.chunk_rows * columns * self.compute.itemsize + self.tile_buffers * self.tile_rows * self.shared * 4

    def flops(self, head_learns: bool) -> int:
        """Products with both heads, forward and backward."""
        vocabulary, width = self.student
        own = 2 * self.rows * vocabulary * width * (3 if head_learns else 2)
        return own + (2 * self.rows * self.shared * self.teacher[1] if self.teacher else 0)


def loss_buffers(
    rows: int,
    student: tuple[int, int],
    teacher: tuple[int, int] | None,
    shared: int,
    spec: LossSpec,
    *,
    chunk_mb: int | None,
    bf16: bool,
    on_gpu: bool,
) -> LossBuffers:
    """Sizes by the loss's own planning."""
    rows = max(rows, 1)
    compute = torch.bfloat16 if bf16 else torch.float32
    device = "meta" if on_gpu else "cpu"

    def head(size: tuple[int, int]) -> Head:
        weight = torch.empty(1, 1, device=device).expand(size)  # the shape alone matters: no memory
        return Head(torch.empty(1, 1, device=device, dtype=compute).expand(rows, size[1]), weight)

    labels = torch.empty(1, dtype=torch.long, device=device).expand(rows)
    cut = None if teacher is None else (shared, teacher[1])
    inputs = LossInputs(head(student), None if cut is None else head(cut), labels, shared, spec, 1.0)
    budget = usual_bytes(inputs) if chunk_mb is None else chunk_mb * 2**20
    kernel = on_gpu and spec.semantics == "paper"
    if kernel:
        chunk_rows = tile_rows = plan_chunk(inputs, compute, budget)
    else:
        chunk_rows, tile_rows = plan(inputs, compute, budget)
    return LossBuffers(rows, chunk_rows, tile_rows, student, teacher, shared, 0 if kernel else TILE_BUFFERS, compute)


class StandIn(torch.autograd.Function):
    """Takes the memory of the fused loss in its forward, and hands the gradients over in its backward."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, sizes: LossBuffers, tracker: LiveStorages
    ) -> Tensor:
        wants = ctx.needs_input_grad[:3]
        with tracker.label("loss"):
            # In the order of the real one: heads in the compute dtype, buffers, gradients, then the buffers go.
            heads = [] if weight.dtype == sizes.compute else [weight.to(sizes.compute), hidden.to(sizes.compute)]
            if sizes.teacher is not None and sizes.compute != torch.float32:
                heads.append(weight.new_empty(sizes.shared, sizes.teacher[1], dtype=sizes.compute))
            columns = [sizes.student[0], sizes.shared if sizes.teacher else 0]
            chunk = [hidden.new_empty(sizes.chunk_rows, n, dtype=sizes.compute) for n in columns]
            tiles = [
                hidden.new_empty(sizes.tile_rows, sizes.shared, dtype=torch.float32) for _ in range(sizes.tile_buffers)
            ]
            gradients = [hidden.new_empty(hidden.shape, dtype=torch.float32) if wants[0] else None]
            gradients.append(weight.new_empty(weight.shape, dtype=torch.float32) if wants[1] else None)
            gradients.append(bias.new_empty(bias.shape) if bias is not None and wants[2] else None)
            if wants[1] and sizes.compute != torch.float32:
                chunk.append(
                    weight.new_empty(weight.shape, dtype=sizes.compute)
                )  # a chunk's product, before it is added
            loss = hidden.new_empty(())
        ctx.save_for_backward(hidden, weight, bias)
        ctx.gradients = gradients
        del heads, chunk, tiles
        return loss

    @staticmethod
    def backward(ctx: Any, loss_gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        scaled = (
            None if found is None else found.mul_(loss_gradient).to(original.dtype)
            for found, original in zip(gradients, ctx.saved_tensors, strict=True)
        )
        return (*scaled, None, None)
