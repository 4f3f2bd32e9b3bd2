"""A teacher known only by the K most likely tokens of each row: from a server, or from a cache short of disk."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.losses.divergences import at_least_fp32
from taid_vlm.losses.objective import LossSpec

TAILS = ("uniform", "none")
# The logit of a token that cannot occur: exp of it is 0 also at t = 1e-20 of TAID's mixture, and yet 0 times it is 0.
IMPOSSIBLE = -1e30
# The log of the sum of a row's probabilities, which is at most 0 but for rounding; of bf16 log-probabilities, too.
MOST_MASS = 0.05


@dataclass(frozen=True)
class TopK:
    """What is known of a teacher at N rows: the log-probabilities of some tokens, K in a row.

    Log-probabilities are logits, so an objective takes them as such: unknown tokens get the logit that the tail rule gives
    them, and the softmax over the shared vocabulary does the rest. Tokens outside the shared vocabulary are dropped, and
    what is left is renormalised, as where the head of a dense teacher is cut. A row of which fewer tokens are known is
    filled up with the id -1, which no vocabulary has.

    Attributes:
        ids: ``[N, K]`` int64, each token at most once in a row, in any order.
        log_probs: ``[N, K]`` fp32 (fp64 is kept), of the teacher's whole vocabulary; -inf for a token that cannot occur.
        tail: ``uniform``: the mass that the K leave, 1 - sum, is spread evenly over the other tokens of the shared
            vocabulary. ``none``: the others have probability 0; the K are all there is.

    Raises:
        UserError: shapes or dtypes do not fit, or the tail rule is unknown.
    """

    ids: Tensor
    log_probs: Tensor
    tail: str

    def __post_init__(self) -> None:
        if self.tail not in TAILS:
            raise UserError(f"unknown tail rule {self.tail!r} of a top-k teacher: {did_you_mean(self.tail, TAILS)}")
        if self.ids.dim() != 2 or self.ids.shape != self.log_probs.shape or self.ids.shape[1] == 0:
            raise UserError(
                f"a top-k teacher has ids {list(self.ids.shape)} and log-probabilities {list(self.log_probs.shape)}, expected "
                f"[rows, k] of both, with a k of at least 1"
            )
        if self.ids.dtype != torch.int64 or not self.log_probs.is_floating_point():
            raise UserError(
                f"a top-k teacher has ids of {self.ids.dtype} and log-probabilities of {self.log_probs.dtype}, expected "
                f"int64 token ids and fp32 log-probabilities"
            )

    @classmethod
    def of(cls, logits_NV: Tensor, k: int, tail: str) -> "TopK":
        """The k most likely tokens of each row of a dense teacher's logits, the likeliest first.

        Raises:
            UserError: k is not from 1 to V, or the tail rule is unknown.
        """
        if not 1 <= k <= logits_NV.shape[-1]:
            raise UserError(f"top_k is {k}, expected 1 to {logits_NV.shape[-1]}, the teacher's vocabulary")
        top = at_least_fp32(logits_NV.detach()).log_softmax(dim=-1).topk(k, dim=-1)
        return cls(top.indices, top.values, tail)

    @property
    def rows(self) -> int:
        return self.ids.shape[0]

    @property
    def k(self) -> int:
        return self.ids.shape[1]

    def to(self, device: torch.device) -> "TopK":
        """The same on a device."""
        return replace(self, ids=self.ids.to(device), log_probs=self.log_probs.to(device))

    def over(self, vocabulary: int) -> "TopKLogits":
        """What the objectives take: logits over the first ``vocabulary`` tokens, which are not written out yet.

        Raises:
            UserError: a token stands twice in a row, a row's probabilities add up to more than 1, or a row has no token of
                the shared vocabulary while the tail rule gives the others nothing.
        """
        given, values = self.ids >= 0, at_least_fp32(self.log_probs.detach())
        inside = given & (self.ids < vocabulary)
        any_inside_N1 = inside.any(-1, keepdim=True)
        mass_N1 = values.masked_fill(~given, -torch.inf).logsumexp(-1, keepdim=True)
        self._check(mass_N1, any_inside_N1)
        if self.tail == "none":
            values = values.clamp(min=IMPOSSIBLE)
            tail_N1 = torch.full_like(mass_N1, IMPOSSIBLE)
        else:
            # Below the precision of the numbers what is left cannot be told from rounding; no token is ruled out for it.
            left_N1 = (-torch.expm1(mass_N1)).clamp(min=torch.finfo(values.dtype).eps)
            tail_N1 = left_N1.log() - (vocabulary - inside.sum(-1, keepdim=True)).clamp(min=1).log().to(values.dtype)
        # What is dropped is written as the first token that is not, a second time.
        first_N1 = inside.to(torch.uint8).argmax(-1, keepdim=True)
        some_id_N1 = self.ids.gather(-1, first_N1).where(any_inside_N1, 0)
        some_value_N1 = values.gather(-1, first_N1).where(any_inside_N1, tail_N1)
        return TopKLogits(self.ids.where(inside, some_id_N1), values.where(inside, some_value_N1), tail_N1, vocabulary)

    def _check(self, mass_N1: Tensor, any_inside_N1: Tensor) -> None:
        ordered = self.ids.sort(dim=-1).values
        twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any()
        too_much, empty = (mass_N1 > MOST_MASS).any(), (~any_inside_N1).any()
        found = torch.stack([twice, too_much, empty]).tolist()  # a GPU is waited for once
        if found[0]:
            raise UserError("a row of a top-k teacher has a token twice, expected each token id at most once")
        if found[1]:
            raise UserError(
                f"the probabilities of a row of a top-k teacher add up to {float(mass_N1.max().exp()):.3g}, expected at most 1: "
                f"pass log-probabilities over the teacher's whole vocabulary, not logits"
            )
        if found[2] and self.tail == "none":
            row = int((~any_inside_N1).flatten().nonzero()[0])
            raise UserError(
                f"row {row} of a top-k teacher has no token of the shared vocabulary, and tail rule 'none' allows no other: take "
                f"the tail rule 'uniform', or a larger k"
            )


@dataclass(frozen=True)
class TopKLogits:
    """The teacher's logits over the shared vocabulary, written out for a few rows at a time.

    Attributes:
        ids, values: ``[N, K]`` tokens of the vocabulary and their logits. tail: ``[N, 1]`` logit of every other token.
    """

    ids: Tensor
    values: Tensor
    tail: Tensor
    vocabulary: int
    # As a head that changes nothing.
    bias: ClassVar[None] = None
    scale: ClassVar[float] = 1.0
    softcap: ClassVar[None] = None

    @property
    def rows(self) -> int:
        return self.ids.shape[0]

    def logits(self, rows: slice = slice(None)) -> Tensor:
        """``[n, V]`` of some rows."""
        ids = self.ids[rows]
        return self.write(self.values.new_empty(len(ids), self.vocabulary), rows)

    def write(self, out_nV: Tensor, rows: slice) -> Tensor:
        """The logits of some rows, over ``out_nV``."""
        out_nV.copy_(self.tail[rows].expand_as(out_nV))
        return out_nV.scatter_(-1, self.ids[rows], self.values[rows].to(out_nV.dtype))


def check_tail(tail: str, spec: LossSpec) -> None:
    """Refuse an objective that is infinite, or undefined, where the teacher gives a token the probability 0.

    Raises:
        UserError: the tail rule is ``none`` and the objective is one of those.
    """
    if tail != "none" or not spec.kd_weight or spec.finite_without_support:
        return
    what = f"{spec.name!r} with divergence {spec.divergence!r}" if spec.name == "taid" else repr(spec.name)
    why = (
        "the authors' code, semantics: reference, has no such teachers"
        if spec.semantics == "reference"
        else "it is infinite, or undefined, where the teacher gives a token no probability"
    )
    raise UserError(
        f"loss {what} cannot have a top-k teacher with tail rule 'none': {why}; take the tail rule 'uniform'"
    )
