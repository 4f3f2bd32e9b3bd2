"""What a run minimises, and what one evaluation of it returns.

    loss = sum over rows of  kd_weight * KD + ce_weight * cross-entropy(labels)

It is a sum. The mean needs the number of supervised rows of the whole optimizer step, over all micro-batches
and ranks, which only the training loop knows: it divides, once.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from taid_vlm.common.errors import UserError, did_you_mean

LOSS_NAMES = ("sft", "kl", "taid")


@dataclass(frozen=True)
class LossSpec:
    """The objective: a name and two weights. ``LossSpec.of`` fills in the weights that belong to a name.

    * ``sft``: cross-entropy on the labels; no teacher.
    * ``kl``: forward KL from the teacher.
    * ``taid``: KL from the TAID target (arXiv 2501.16937).
    """

    name: str
    kd_weight: float = 1.0
    ce_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in LOSS_NAMES:
            raise UserError(f"unknown loss {self.name!r}: {did_you_mean(self.name, LOSS_NAMES)}")
        for key, weight in (("kd_weight", self.kd_weight), ("ce_weight", self.ce_weight)):
            if not (math.isfinite(weight) and weight >= 0):
                raise UserError(f"{key} is {weight}, expected a finite number of at least 0")
        if self.name == "sft" and self.kd_weight != 0:
            raise UserError(
                f"loss 'sft' has kd_weight {self.kd_weight}, expected 0 because it has no teacher: "
                f"set kd_weight 0 and ce_weight 1 (LossSpec.of('sft') does), or choose a loss with a teacher"
            )
        if self.kd_weight == 0 and self.ce_weight == 0:
            raise UserError("kd_weight and ce_weight are both 0, so there is nothing to learn: raise one of them")

    @classmethod
    def of(cls, name: str, kd_weight: float | None = None, ce_weight: float | None = None) -> "LossSpec":
        """The objective ``name`` with its usual weights where none are given.

        Those are kd 0, ce 1 for ``sft`` and kd 1, ce 0 for the others (TAID has no cross-entropy term).

        Raises:
            UserError: the name is unknown or the weights make no sense together.
        """
        usual_kd, usual_ce = (0.0, 1.0) if name == "sft" else (1.0, 0.0)
        return cls(
            name,
            kd_weight=usual_kd if kd_weight is None else kd_weight,
            ce_weight=usual_ce if ce_weight is None else ce_weight,
        )

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's hidden states and head must be given."""
        return self.name != "sft"

    def target_t(self, t: float) -> float:
        """Where from student (0) to teacher (1) this objective's target lies when the clock shows ``t``."""
        return t if self.name == "taid" else 1.0


@dataclass(frozen=True)
class LossOutput:
    """One evaluation of the objective on some rows.

    Attributes:
        loss: scalar, in nats, SUMMED over the rows; carries the gradient to the student.
        rows: number of rows.
        sums: detached scalars (fp32, or fp64 for fp64 logits), each summed over the rows. Always
            ``cross_entropy`` (of the labels, full vocabulary). With a teacher also, over the shared vocabulary:
            ``kl_target`` KL(p_t || q); ``ce_target`` -sum p_t log q, the value the authors' code logs;
            ``kl_teacher`` KL(p || q), comparable between objectives and between values of t;
            ``agreement``, the number of rows where teacher and student have the same top token.
    """

    loss: Tensor
    rows: int
    sums: dict[str, Tensor]
