"""The loop over chunks of rows: products, tiles, gradients."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from taid_vlm.losses import triton_tile
from taid_vlm.losses.columns import Products
from taid_vlm.losses.figures import sample_places, sampled_mass
from taid_vlm.losses.inputs import Head, LossInputs
from taid_vlm.losses.plain import weighted
from taid_vlm.losses.tile import Tile, sum_names
from taid_vlm.losses.topk import TopKLogits
from taid_vlm.losses.triton_tile import TritonTile

# Measured with two threads: from 1 to 4 MiB per buffer of a tile the time is flat, beyond it the cache is left, of which
# every core has its own. On a GPU a tile is one kernel launch per pass, and needs to be large.
TILE_BYTES_PER_THREAD = 2**20
TILE_BYTES_ELSEWHERE = 64 * 2**20
# Buffers of a tile that the greediest closed form takes.
TILE_BUFFERS = 12
TILE_SHARE = 0.25
# Of a chunk when no budget is given. On a CPU more rows save little time, and fewer cost some: the head's gradient is
# read and written once per chunk.
USUAL_BYTES, USUAL_ROWS_ON_CPU = 2**30, 512


@dataclass
class Evaluation:
    """The summed loss, its figures, and its gradients in the order hidden, weight, bias, temperature."""

    loss: Tensor
    sums: dict[str, Tensor]
    gradients: tuple[Tensor | None, ...]


def evaluate(inputs: LossInputs, chunk_bytes: int, wants: tuple[bool, bool, bool, bool]) -> Evaluation:
    """Evaluate the objective; only the gradients in ``wants`` are made."""
    student = inputs.student.in_compute_dtype()
    teacher = inputs.teacher.in_compute_dtype() if isinstance(inputs.teacher, Head) else inputs.teacher
    dtype = _logits_dtype(student, teacher)
    tile: Tile | TritonTile
    if dtype == torch.float32 and triton_tile.wanted(inputs):
        chunk_rows = tile_rows = plan_chunk(inputs, student.hidden.dtype, chunk_bytes)
        tile = TritonTile(inputs, student, teacher, any(wants))
    else:
        chunk_rows, tile_rows = plan(inputs, student.hidden.dtype, chunk_bytes)
        tile = Tile(inputs, tile_rows, dtype, any(wants))
    gradients = _Gradients(inputs, student, wants)
    names = sum_names(inputs)
    totals = torch.zeros(len(names), dtype=dtype, device=student.hidden.device)
    with torch.autocast(student.hidden.device.type, enabled=False):
        for products in _chunks(inputs, student, teacher, chunk_rows):
            n = len(products.shared)
            for start in range(0, n, tile_rows):
                totals += tile.sums(products.tile(start, start + tile_rows))
            if any(wants):
                gradients.add(products)
        sums = dict(zip(names, totals.unbind(), strict=True))
        loss = weighted(sums, inputs.spec)
        if inputs.mass_rows:
            sums |= _masses(inputs, student)
    return Evaluation(loss, sums, gradients.all(tile.temperature_slope))


def usual_bytes(inputs: LossInputs) -> int:
    """Budget for all temporary memory of the size of logits."""
    if inputs.student.hidden.device.type != "cpu":
        return USUAL_BYTES
    rows_bytes = USUAL_ROWS_ON_CPU * _row_bytes(inputs, inputs.student.hidden.dtype)
    return min(USUAL_BYTES, math.ceil(rows_bytes / (1 - TILE_SHARE)))


def _row_bytes(inputs: LossInputs, compute: torch.dtype) -> int:
    """Logits of one row of both models; those of a top-k teacher are no product."""
    theirs = inputs.teacher.values.dtype if isinstance(inputs.teacher, TopKLogits) else compute
    shared = inputs.vocabulary if inputs.teacher is not None else 0
    return compute.itemsize * inputs.student.vocabulary + theirs.itemsize * shared


def plan(inputs: LossInputs, compute: torch.dtype, chunk_bytes: int) -> tuple[int, int]:
    """Rows of a chunk and rows of a tile, at least one each, that keep within ``chunk_bytes``."""
    row_bytes = torch.promote_types(compute, torch.float32).itemsize * inputs.vocabulary
    most = max(1, int(chunk_bytes * TILE_SHARE) // TILE_BUFFERS // row_bytes)
    tile_rows = TILE_BYTES_ELSEWHERE // row_bytes
    if inputs.student.hidden.device.type == "cpu":
        # Threads share out rows: with three rows one of two threads would wait half of the time.
        threads = torch.get_num_threads()
        tile_rows = max(1, round(TILE_BYTES_PER_THREAD / row_bytes)) * threads
        most -= most % threads if most > threads else 0
    tile_rows = max(1, min(tile_rows, most))
    chunk_rows = plan_chunk(inputs, compute, int(chunk_bytes * (1 - TILE_SHARE)))
    return chunk_rows, min(tile_rows, chunk_rows)


def plan_chunk(inputs: LossInputs, compute: torch.dtype, logits_bytes: int) -> int:
    """Rows of a chunk, at least one, whose logits of both models keep within ``logits_bytes``."""
    most = max(1, logits_bytes // _row_bytes(inputs, compute))
    if most > 16:
        most -= most % 16  # matrix products like whole blocks
    # Chunks of equal size rather than full ones and a small rest.
    chunks = max(1, -(-inputs.student.rows // most))
    return max(1, min(most, -(-inputs.student.rows // chunks)))


def _chunks(
    inputs: LossInputs, student: Head, teacher: Head | TopKLogits | None, chunk_rows: int
) -> Iterator[Products]:
    """Products of one chunk after the other, always in the same memory; those of a top-k teacher are left to the tile."""
    teacher = teacher if isinstance(teacher, Head) else None
    shared, rows = inputs.vocabulary, student.rows
    first, other = student.columns(0, shared), student.columns(shared, student.vocabulary)
    buffers = [_buffer(first, chunk_rows), None, None]
    if other.vocabulary:
        buffers[1] = _buffer(other, chunk_rows)
    if teacher is not None:
        buffers[2] = _buffer(teacher, chunk_rows)
    for start in range(0, rows, chunk_rows):
        which = slice(start, min(start + chunk_rows, rows))
        made = [
            None if buffer is None or head is None else _multiply(head, which, buffer)
            for head, buffer in zip((first, other, teacher), buffers, strict=True)
        ]
        assert made[0] is not None
        yield Products(made[0], made[1], made[2], which)


def _buffer(head: Head, rows: int) -> Tensor:
    return torch.empty(rows, head.vocabulary, dtype=head.hidden.dtype, device=head.hidden.device)


def _multiply(head: Head, which: slice, buffer: Tensor) -> Tensor:
    hidden = head.hidden[which]
    return torch.mm(hidden, head.weight.t(), out=buffer[: len(hidden)])


def _logits_dtype(student: Head, teacher: Head | TopKLogits | None) -> torch.dtype:
    dtype = torch.promote_types(student.hidden.dtype, torch.float32)
    if teacher is None:
        return dtype
    return torch.promote_types(dtype, teacher.hidden.dtype if isinstance(teacher, Head) else teacher.values.dtype)


def _masses(inputs: LossInputs, student: Head) -> dict[str, Tensor]:
    places = list(sample_places(student.rows, inputs.mass_rows))
    shared = inputs.student.columns(0, inputs.vocabulary)
    sample = Head(
        student.hidden[places], student.weight[: inputs.vocabulary], shared.bias, shared.scale, shared.softcap
    )
    return sampled_mass(sample.logits())


class _Gradients:
    """Gradients of hidden states, head and bias, as far as wanted; the last two accumulate in at least fp32."""

    def __init__(self, inputs: LossInputs, student: Head, wants: tuple[bool, bool, bool, bool]) -> None:
        self.student, self.shared, self.wants = student, inputs.vocabulary, wants
        self.labels_only_rest = bool(inputs.spec.ce_weight)
        dtype, device = torch.promote_types(student.hidden.dtype, torch.float32), student.hidden.device
        # Written by the first chunk rather than filled: a head is large, and a pass over it costs as much as a product.
        self.hidden = torch.empty_like(student.hidden) if wants[0] else None
        self.weight = torch.empty(student.weight.shape, dtype=dtype, device=device) if wants[1] else None
        self.written = {0: False, self.shared: False}  # by the first of the columns
        self.bias = torch.zeros(student.vocabulary, dtype=dtype, device=device) if wants[2] else None

    def add(self, products: Products) -> None:
        """Take in the gradient that ``products`` have become."""
        self._add(products.shared, products.rows, 0, self.shared)
        # Columns beyond the shared ones learn from labels alone; with no weight on those there is nothing to add.
        if products.rest is not None and self.labels_only_rest:
            self._add(products.rest, products.rows, self.shared, self.student.vocabulary)

    def _add(self, gradient_nC: Tensor, which: slice, start: int, stop: int) -> None:
        if self.bias is not None:
            self.bias[start:stop] += gradient_nC.sum(dim=0, dtype=self.bias.dtype)
        weight_CH, hidden_nH = self.student.weight[start:stop], self.student.hidden[which]
        if self.hidden is not None:
            self.hidden[which].addmm_(gradient_nC, weight_CH, beta=0 if start == 0 else 1)
        if self.weight is not None:
            sums_CH, more = self.weight[start:stop], self.written[start]
            self.written[start] = True
            if sums_CH.dtype == gradient_nC.dtype:
                sums_CH.addmm_(gradient_nC.t(), hidden_nH, beta=int(more))
            elif more:  # the product is made in the compute dtype, but summed in fp32
                sums_CH += gradient_nC.t() @ hidden_nH
            else:
                sums_CH.copy_(gradient_nC.t() @ hidden_nH)

    def all(self, temperature_slope: Tensor) -> tuple[Tensor | None, ...]:
        """In the order hidden, weight, bias, temperature; hidden states in fp32 too, for they are to be scaled."""
        for start, written in self.written.items():
            if self.weight is not None and not written:
                self.weight[start : self.shared if start == 0 else None].zero_()
        hidden = None if self.hidden is None else self.hidden.to(torch.promote_types(self.hidden.dtype, torch.float32))
        return hidden, self.weight, self.bias, temperature_slope.clone() if self.wants[3] else None
