"""What a closed form works on: some rows as probabilities, and scratch memory that is used again and again.

Plain functions (``divergences`` and the files of the methods) are the definitions. Beside each stands a closed form
with the signature ``closed(rows: Rows, **options) -> values_n``, which writes the gradient with respect to the
student's logits into ``rows.gradient``. With q = softmax(z), a slope a = dD/dq becomes that gradient through

    dD/dz = q * (a - sum_v q_v a_v),       or with b = q * a = dD/dlog q:    dD/dz = b - q * sum_v b_v.

Rows are few enough to stay in the processor's cache, and nothing is allocated after the first tile: a fresh tensor
of this size costs more in page faults than ten passes of arithmetic over it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class Scratch:
    """Buffers [rows, columns] that are handed out in turn, and again from the first after ``rewind``."""

    def __init__(self, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> None:
        self._size, self._dtype, self._device = (rows, columns), dtype, device
        self._buffers: list[Tensor] = []
        self._used = 0
        self._products: Tensor | None = None

    def take(self, rows: int) -> Tensor:
        """An uninitialised [rows, columns], the caller's own until ``rewind``."""
        if self._used == len(self._buffers):
            self._buffers.append(torch.empty(self._size, dtype=self._dtype, device=self._device))
        self._used += 1
        return self._buffers[self._used - 1][:rows]

    def rewind(self) -> None:
        self._used = 0

    def dot(self, left_nV: Tensor, right_nV: Tensor) -> Tensor:
        """sum_v left_v right_v of each row, [n]."""
        if self._products is None:
            self._products = torch.empty(self._size, dtype=self._dtype, device=self._device)
        return torch.mul(left_nV, right_nV, out=self._products[: len(left_nV)]).sum(-1)


BLOCK = 512


@dataclass(eq=False)
class Rows:
    """Student q and target p of n rows; only ``gradient`` may be written, and only by a closed form's last steps.

    Attributes:
        log_q, q, log_p, p: [n, V] of at least fp32, contiguous, finite logarithms.
        unshifted_log_p: [n, V] the memory of log_p, which is still to be lowered by ``shift`` [n, 1], if that is given.
        gradient: [n, V], where a closed form leaves dD/dz. It may be the memory of ``log_q``.
        labels: [n] token ids; -1 where the label lies outside these V columns.
        student_written: [n] booleans, or None: which rows come from answers that the student wrote.
        temperature: the trained temperature of CTKD. temperature_slope: [n], what that method leaves here.
    """

    log_q: Tensor
    q: Tensor
    unshifted_log_p: Tensor
    p: Tensor
    gradient: Tensor
    scratch: Scratch
    labels: Tensor
    student_written: Tensor | None = None
    temperature: Tensor | None = None
    temperature_slope: Tensor | None = None
    shift: Tensor | None = None
    _log_ratio: Tensor | None = None
    _forward_kl: Tensor | None = None

    @property
    def log_p(self) -> Tensor:
        """log p, lowered by ``shift`` where a form asks for it first."""
        if self.shift is not None:
            self.unshifted_log_p.sub_(self.shift)
            self.shift = None
        return self.unshifted_log_p

    @property
    def log_ratio(self) -> Tensor:
        """log p - log q, made once."""
        if self._log_ratio is None:
            self._log_ratio = torch.sub(self.log_p, self.log_q, out=self.new())
        return self._log_ratio

    @property
    def forward_kl(self) -> Tensor:
        """KL(p || q) of each row, [n], made once."""
        if self._forward_kl is None:
            self._forward_kl = self.dot(self.p, self.log_ratio)
        return self._forward_kl

    def new(self) -> Tensor:
        """An uninitialised [n, V]."""
        return self.scratch.take(len(self.q))

    def dot(self, left_nV: Tensor, right_nV: Tensor) -> Tensor:
        """sum_v left_v right_v of each row, [n]."""
        return self.scratch.dot(left_nV, right_nV)

    def with_(self, **changes: Any) -> "Rows":
        """The same rows with other distributions."""
        if "unshifted_log_p" not in changes:
            _ = self.log_p  # lowered now, or each of the two would lower the memory that they share
        kept = {name: value for name, value in vars(self).items() if name not in ("_log_ratio", "_forward_kl")}
        return Rows(**{**kept, **changes})

    def towards(self, t: float) -> tuple["Rows", Tensor]:
        """The same student before TAID's target p_t = softmax((1 - t) log q + t log p), held fixed; entropy of p_t, [].

        With d = log p - log q, m = log q + t d and its logsumexp l, log p_t is m - l. So KL(p_t || q) is t E[d] - l and
        the entropy l - E[m], expectations under p_t, and no pass over memory lowers m by l unless a form asks.
        """
        target, p = torch.add(self.log_q, self.log_ratio, alpha=t, out=self.new()), self.new()
        lse_n1 = softmax_into(target, p, target.amax(dim=-1, keepdim=True))
        entropy = lse_n1.sum() - inner(p, target)
        forward_kl = self.dot(p, self.log_ratio).mul_(t).sub_(lse_n1.squeeze(-1))
        return self.with_(unshifted_log_p=target, shift=lse_n1, p=p, _forward_kl=forward_kl), entropy

    def keep_slope(self, slope: Tensor) -> None:
        """gradient = q * (slope - sum q slope), for slope = dD/dq up to a constant of each row."""
        mean_n1 = self.dot(self.q, slope).unsqueeze(-1)
        torch.sub(slope, mean_n1, out=self.gradient).mul_(self.q)

    def keep_log_slope(self, slope: Tensor) -> None:
        """gradient = slope - q * sum slope, for slope = dD/dlog q."""
        total_n1 = slope.sum(dim=-1, keepdim=True)
        torch.sub(slope, torch.mul(self.q, total_n1, out=self.new()), out=self.gradient)


def inner(left_nV: Tensor, right_nV: Tensor) -> Tensor:
    """sum of left * right over all rows and columns, contiguous both."""
    return torch.dot(left_nV.view(-1), right_nV.view(-1))


def largest(values_nV: Tensor) -> tuple[Tensor, Tensor]:
    """Largest entry of each row and its place, [n, 1] both.

    In blocks, for on a CPU the largest entry alone is found ten times as fast as its place.
    """
    width = values_nV.shape[-1]
    if width < 2 * BLOCK:
        return values_nV.max(dim=-1, keepdim=True)
    whole = width - width % BLOCK
    tops = values_nV[:, :whole].unflatten(-1, (-1, BLOCK)).amax(-1)
    if whole < width:
        tops = torch.cat([tops, values_nV[:, whole:].amax(-1, keepdim=True)], dim=-1)
    start_n1 = (tops.argmax(-1, keepdim=True) * BLOCK).clamp(max=width - BLOCK)
    block = values_nV.gather(-1, start_n1 + torch.arange(BLOCK, device=values_nV.device))
    top_n1, place_n1 = block.max(dim=-1, keepdim=True)
    return top_n1, start_n1 + place_n1


def softmax_into(logits_nV: Tensor, p_nV: Tensor, top_n1: Tensor, place_n1: Tensor | None = None) -> Tensor:
    """softmax of finite logits into ``p_nV``; returns their logsumexp, [n, 1].

    One pass of exp for both: where a row has its largest entry ``top_n1`` (at ``place_n1``), p is exp(0) / sum.
    """
    torch.softmax(logits_nV, dim=-1, out=p_nV)
    largest_n1 = p_nV.amax(dim=-1, keepdim=True) if place_n1 is None else p_nV.gather(-1, place_n1)
    return top_n1 - largest_n1.log_()


def log_softmax_(logits_nV: Tensor, p_nV: Tensor) -> tuple[Tensor, Tensor]:
    """Finite logits become log-probabilities in place, and ``p_nV`` the probabilities."""
    lse_n1 = softmax_into(logits_nV, p_nV, logits_nV.amax(dim=-1, keepdim=True))
    return logits_nV.sub_(lse_n1), p_nV
