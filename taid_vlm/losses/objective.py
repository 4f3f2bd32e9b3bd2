"""What a run minimises, and what one evaluation of it returns.

    loss = sum over rows of  kd_weight * KD + ce_weight * cross-entropy(labels)

It is a sum. The mean needs the number of supervised rows of the whole optimizer step, over all micro-batches
and ranks, which only the training loop knows: it divides, once.
"""

import math
from dataclasses import dataclass, field

from torch import Tensor

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.plug_ins import LOSSES, near_or_outside, plug_in
from taid_vlm.losses.methods import DIVERGENCES, Divergence, check_options

LOSS_NAMES = ("sft", "taid", *DIVERGENCES)
SEMANTICS = ("paper", "reference")


@dataclass(frozen=True)
class LossSpec:
    """The objective. ``LossSpec.of`` fills in what belongs to a name.

    Attributes:
        name: ``sft`` (cross-entropy on the labels, no teacher), ``taid`` (arXiv 2501.16937), or a divergence from
            the teacher: the names in ``methods``, or one that a plug-in brings.
        kd_weight, ce_weight: weights of the two terms.
        divergence: what is measured. For ``taid`` from its target, ``kl`` unless said otherwise; for the divergences it
            is the name itself; empty for ``sft``.
        options: of the divergence, by the names in its function.
        semantics: ``paper``, or ``reference`` for what the TAID authors' code computes (see ``reference``).

    Raises:
        UserError: unknown names, options that the loss does not have, weights that make no sense.
    """

    name: str
    kd_weight: float = 1.0
    ce_weight: float = 0.0
    divergence: str = ""
    options: dict[str, float | str] = field(default_factory=dict)
    semantics: str = "paper"

    def __post_init__(self) -> None:
        brought = plug_in(LOSSES, self.name, built_in=self.name in LOSS_NAMES)
        if brought is None and self.name not in LOSS_NAMES:
            known = {*LOSS_NAMES, *DIVERGENCES.names()}
            raise UserError(f"unknown loss {self.name!r}: {near_or_outside(self.name, known)}")
        usual = {"sft": "", "taid": "kl"}.get(self.name, self.name)
        object.__setattr__(self, "divergence", self.divergence or usual)
        self._check_weights()
        if self.divergence != usual:
            self._check_composition()
        if self.divergence:
            check_options(self.divergence, self.options)
        elif self.options:
            raise UserError(f"loss 'sft' has no options, found {', '.join(self.options)}: remove them")
        if self.semantics not in SEMANTICS:
            raise UserError(f"unknown semantics {self.semantics!r}: {did_you_mean(self.semantics, SEMANTICS)}")
        if self.semantics == "reference" and self.divergence and not self._in_reference:
            raise UserError(
                f"loss {self.name!r} with divergence {self.divergence!r} is not in the TAID authors' code: "
                f"remove semantics: reference"
            )

    @property
    def _in_reference(self) -> bool:
        return self.method.reference is not None and (self.name != "taid" or self.divergence == "kl")

    def _check_weights(self) -> None:
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

    def _check_composition(self) -> None:
        if self.name != "taid":
            raise UserError(f"loss {self.name!r} takes no divergence: only 'taid' is combined with one")
        if not DIVERGENCES.get(self.divergence).to_target:
            raise UserError(f"divergence {self.divergence!r} cannot be taken to TAID's target: choose another")

    @classmethod
    def of(
        cls,
        name: str,
        kd_weight: float | None = None,
        ce_weight: float | None = None,
        *,
        divergence: str = "",
        semantics: str = "paper",
        **options: float | str,
    ) -> "LossSpec":
        """The objective ``name`` with its usual weights where none are given.

        Those are kd 0, ce 1 for ``sft`` and kd 1, ce 0 for the others (TAID has no cross-entropy term).

        >>> LossSpec.of("jsd", beta=0.5).options
        {'beta': 0.5}

        Raises:
            UserError: see the class.
        """
        usual_kd, usual_ce = (0.0, 1.0) if name == "sft" else (1.0, 0.0)
        kd_weight = usual_kd if kd_weight is None else kd_weight
        ce_weight = usual_ce if ce_weight is None else ce_weight
        return cls(name, kd_weight, ce_weight, divergence, options, semantics)

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's hidden states and head must be given."""
        return self.name != "sft"

    @property
    def method(self) -> Divergence:
        """Plain function, closed form and the rest of the divergence; ``sft`` has none."""
        return DIVERGENCES.get(self.divergence)

    @property
    def trains_temperature(self) -> bool:
        """Whether the objective has a temperature that the optimizer must train."""
        return self.divergence == "ctkd" and self.semantics == "paper"

    @property
    def finite_without_support(self) -> bool:
        """Whether the objective is finite where the teacher gives a token the probability 0, as far as is known."""
        return self.semantics == "paper" and (not self.divergence or self.method.without_support(self.options))

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
            ``cross_entropy`` (of the labels, full vocabulary) and ``student_entropy``. With a teacher also, over
            the shared vocabulary: ``kl_target`` KL(p_t || q); ``ce_target`` -sum p_t log q, the value the authors'
            code logs; ``kl_teacher`` KL(p || q), comparable between objectives and between values of t;
            ``teacher_entropy``; ``agreement``, the number of rows where no token is likelier to the student than the
            teacher's top token; and ``kd``, the divergence that is minimised, if it has a weight. On request, for a
            sample of ``mass_rows`` rows: ``head_mass`` and ``tail_mass`` of the student (see ``figures``).
    """

    loss: Tensor
    rows: int
    sums: dict[str, Tensor]
