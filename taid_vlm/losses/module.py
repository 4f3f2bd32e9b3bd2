"""TAID as one object for a training loop of somebody's own: the loss on full logits, and the clock that moves its target."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.losses.divergences import cross_entropy
from taid_vlm.losses.schedule import TAIDClock
from taid_vlm.losses.taid import taid

IGNORED = -100  # transformers' label of a position that is not learnt


class TAIDLoss(nn.Module):
    """KL(p_t || student) at the supervised tokens, where p_t moves from the student to the teacher (arXiv 2501.16937).

    Call it for every micro-batch, and ``step`` once after each optimizer step: then ``t`` moves by the mean loss of all
    tokens since the last ``step``, on all processes alike. Calls without a gradient (``torch.no_grad``) or in ``eval()``
    leave the clock alone. The module has no parameters; its ``state_dict`` is the clock's.

    The recipes of this toolkit use ``distillation_loss`` instead, which makes logits in chunks: here both models' logits
    must fit into memory, and the supervised rows of both once more in fp32.

    >>> loss = TAIDLoss(total_steps=1000, alpha_total=5.9)
    >>> loss.t
    0.4
    """

    def __init__(
        self,
        total_steps: int,
        *,
        schedule: str = "adaptive",
        t_start: float = 0.4,
        t_end: float = 1.0,
        alpha: float | None = None,
        alpha_total: float | None = None,
        beta: float = 0.99,
        ce_weight: float = 0.0,
        shift: bool = True,
        vocabulary: int | None = None,
    ) -> None:
        """
        Args:
            total_steps: optimizer steps of the whole run.
            schedule, t_start, t_end, alpha, alpha_total, beta: see :class:`taid_vlm.losses.TAIDClock`.
            ce_weight: weight of the cross-entropy on the labels beside it; it does not move the clock.
            shift: logits at a position predict the label of the next one, as transformers' models have it. False: labels
                stand where they are predicted.
            vocabulary: leading token ids that mean the same in both models, where their heads differ in size.

        Raises:
            UserError: a value is out of range, or the schedule is unknown or follows another loss (``set_point``).
        """
        super().__init__()
        if schedule == "set_point":
            raise UserError(
                "schedule 'set_point' is for recipes alone: choose adaptive, linear, exponential or constant"
            )
        if not 0 <= ce_weight < float("inf"):
            raise UserError(f"ce_weight is {ce_weight}, expected a finite number of at least 0")
        self.clock = TAIDClock(
            total_steps,
            schedule=schedule,
            t_start=t_start,
            t_end=t_end,
            alpha=alpha,
            alpha_total=alpha_total,
            beta=beta,
        )
        self.ce_weight, self.shift, self.vocabulary = ce_weight, shift, vocabulary
        self._steps = 0
        self._sums: list[Tensor] = []  # [2] each: sum of the loss, number of tokens

    @property
    def t(self) -> float:
        """Where the target is now, from 0 (the student) to 1 (the teacher)."""
        return self.clock.t

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor,
        num_items: Tensor | float | None = None,
    ) -> Tensor:
        """The loss of one micro-batch, in nats per token.

        Args:
            student_logits: [..., T, V], any floating dtype; receives the gradient.
            teacher_logits: [..., T, U] at the same positions; receives none.
            labels: [..., T] token ids, -100 where nothing is learnt.
            num_items: supervised tokens of the whole optimizer step, by which the sum is divided; those of this call when
                left out, which is right without gradient accumulation. Where gradients are averaged over processes, their
                mean number per process.

        Returns:
            A scalar in fp32 (fp64 for fp64 logits): 0, with a gradient of 0, where no token is supervised.

        Raises:
            UserError: shapes that do not belong together, or heads of two sizes without ``vocabulary``.
        """
        student_NV, teacher_NU, labels_N = self._rows(student_logits, teacher_logits, labels)
        shared = self._shared(student_NV.shape[-1], teacher_NU.shape[-1])
        values_N = taid(student_NV[:, :shared], teacher_NU[:, :shared], self.t)
        total = values_N.sum()
        if self.training and torch.is_grad_enabled():
            self._sums.append(torch.stack([total.detach(), total.new_tensor(len(labels_N))]))
        if self.ce_weight:
            total = total + self.ce_weight * cross_entropy(student_NV, labels_N).sum()
        return total / (max(len(labels_N), 1) if num_items is None else num_items)

    def step(self) -> float:
        """Move the clock after an optimizer step, and give the new ``t``; every process of a run must call it.

        Steps without tokens, or whose loss is not finite, leave ``t`` where it is.
        """
        sums = torch.stack(self._sums).sum(0) if self._sums else torch.zeros(2)
        if dist.is_available() and dist.is_initialized():
            if not self._sums and dist.get_backend() == "nccl":
                sums = sums.cuda()
            dist.all_reduce(sums)
        total, rows = sums.tolist()
        self._sums = []
        self.clock.update(total / rows if rows else None, self._steps)
        self._steps += 1
        return self.t

    def get_extra_state(self) -> dict[str, Any]:
        """The clock and the number of steps, as ``state_dict`` keeps them: plain numbers."""
        return {"clock": self.clock.state_dict(), "steps": self._steps}

    def set_extra_state(self, state: Any) -> None:
        """Take over what ``state_dict`` kept; what was summed since the last ``step`` is forgotten.

        Raises:
            UserError: not such a state.
        """
        if not isinstance(state, dict) or set(state) != {"clock", "steps"}:
            raise UserError("this is no state of TAIDLoss: expected what its state_dict() gave, with clock and steps")
        self.clock.load_state_dict(state["clock"])
        self._steps, self._sums = int(state["steps"]), []

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"t={self.t:.4g}, schedule={self.clock.schedule!r}, total_steps={self.clock.total_steps}"

    def _rows(self, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and labels at the supervised positions alone."""
        if student.shape[:-1] != labels.shape or teacher.shape[:-1] != labels.shape:
            raise UserError(
                f"logits of the student have shape {list(student.shape)}, of the teacher {list(teacher.shape)}, labels "
                f"{list(labels.shape)}; expected [..., T, V], [..., T, U] and [..., T]: give both models the same tokens"
            )
        if self.shift:
            student, teacher, labels = student[..., :-1, :], teacher[..., :-1, :], labels[..., 1:]
        learnt = labels != IGNORED
        return student[learnt], teacher.detach()[learnt], labels[learnt]

    def _shared(self, student: int, teacher: int) -> int:
        if self.vocabulary is None and student != teacher:
            raise UserError(
                f"the student's head has {student} tokens and the teacher's {teacher}: give vocabulary=, the number of leading "
                f"token ids that mean the same string in both"
            )
        shared = student if self.vocabulary is None else self.vocabulary
        if not 1 <= shared <= min(student, teacher):
            raise UserError(f"vocabulary is {shared}, expected 1 to {min(student, teacher)}, the smaller of both heads")
        return shared
