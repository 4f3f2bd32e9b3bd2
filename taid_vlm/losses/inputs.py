"""The arguments of the loss over two linear heads, checked once for all implementations."""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.losses.contrastive import check_student_written
from taid_vlm.losses.divergences import at_least_fp32, check_labels
from taid_vlm.losses.objective import LossSpec
from taid_vlm.losses.taid import check_t
from taid_vlm.losses.topk import TopK, TopKLogits, check_tail


@dataclass(frozen=True)
class Head:
    """The last layer of one model at the supervised rows.

    z = scale * (hidden @ weight.T + bias), and then softcap * tanh(z / softcap) where there is a softcap.
    """

    hidden: Tensor  # [N, H]
    weight: Tensor  # [V, H]
    bias: Tensor | None = None  # [V]
    scale: float = 1.0
    softcap: float | None = None

    @property
    def rows(self) -> int:
        return self.hidden.shape[0]

    @property
    def vocabulary(self) -> int:
        return self.weight.shape[0]

    def logits(self, rows: slice = slice(None)) -> Tensor:
        """[n, V] logits of some rows: multiplied in the tensors' dtype, or autocast's, and at once upcast."""
        logits_nV = at_least_fp32(F.linear(self.hidden[rows], self.weight))
        if self.bias is not None:
            logits_nV = logits_nV + self.bias.to(logits_nV.dtype)
        if self.scale != 1:
            logits_nV = logits_nV * self.scale
        return logits_nV if self.softcap is None else self.softcap * (logits_nV / self.softcap).tanh()

    def columns(self, start: int, stop: int) -> "Head":
        """The head of some tokens alone, without a copy."""
        bias = None if self.bias is None else self.bias[start:stop]
        return replace(self, weight=self.weight[start:stop], bias=bias)

    def in_compute_dtype(self) -> "Head":
        """The head in the dtype autocast would multiply it in; cast here once instead of once per chunk."""
        device = self.hidden.device.type
        # Autocast leaves fp64 alone, and so do we.
        if self.hidden.dtype == torch.float64 or not torch.is_autocast_enabled(device):
            return self
        dtype = torch.get_autocast_dtype(device)
        return replace(self, hidden=self.hidden.to(dtype), weight=self.weight.to(dtype))

    def detached(self) -> "Head":
        """The same head outside of autograd."""
        bias = None if self.bias is None else self.bias.detach()
        return replace(self, hidden=self.hidden.detach(), weight=self.weight.detach(), bias=bias)


@dataclass(frozen=True)
class LossInputs:
    """Checked arguments. ``teacher``, if any, is already cut to the ``vocabulary`` shared tokens."""

    student: Head
    teacher: Head | TopKLogits | None
    labels: Tensor  # [N], int64
    vocabulary: int
    spec: LossSpec
    t: float  # of the target: 1 for objectives whose target is the teacher itself
    student_written: Tensor | None = None  # [N], bool
    temperature: Tensor | None = None  # scalar
    mass_rows: int = 0

    def detached(self) -> "LossInputs":
        """The same inputs outside of autograd."""
        temperature = None if self.temperature is None else self.temperature.detach()
        return replace(self, student=self.student.detached(), temperature=temperature)

    def method_extra(self, rows: slice = slice(None)) -> tuple[Tensor | None, ...]:
        """What the divergence takes of some rows beside the logits."""
        extra = self.spec.method.extra
        if extra == "labels":
            labels_n = self.labels[rows]
            return (labels_n.where(labels_n < self.vocabulary, -1),)
        if extra == "student_written":
            return (None if self.student_written is None else self.student_written[rows],)
        if extra == "temperature" and self.temperature is not None:
            return (self.temperature,)
        return ()


def check_inputs(
    student: Head,
    teacher: Head | TopK | None,
    labels_N: Tensor,
    vocabulary: int | None,
    spec: LossSpec,
    t: float,
    student_written_N: Tensor | None = None,
    temperature: Tensor | None = None,
    mass_rows: int = 0,
) -> LossInputs:
    """Check everything that can be checked by shape, and the range of the labels.

    Raises:
        UserError: see ``fused.distillation_loss``.
    """
    check_t(t)
    _check_head("student", student)
    check_labels(labels_N, rows=student.rows, vocabulary=student.vocabulary)
    if teacher is None:
        if spec.needs_teacher:
            raise UserError(
                f"loss {spec.name!r} got no teacher_hidden_ND and teacher_head_UD, expected both: pass them, or a "
                f"teacher_topk, or choose the loss 'sft', which needs no teacher"
            )
    else:
        if isinstance(teacher, Head):
            _check_head("teacher", teacher)
        else:
            check_tail(teacher.tail, spec)
        if teacher.rows != student.rows:
            raise UserError(
                f"the student has {student.rows} rows and the teacher {teacher.rows}, expected the same "
                f"supervised rows of both: gather the answer rows of each before calling"
            )
    if spec.trains_temperature and (temperature is None or temperature.numel() != 1):
        raise UserError(
            "loss 'ctkd' got no temperature, expected a scalar tensor: pass CurriculumTemperature()(reversal), whose "
            "parameter the optimizer must train"
        )
    if student_written_N is not None:
        check_student_written(student_written_N, student.rows)
    if mass_rows < 0:
        raise UserError(f"mass_rows is {mass_rows}, expected a number of rows, at least 0")
    shared = _shared_vocabulary(student, teacher, vocabulary)
    known = teacher.over(shared) if isinstance(teacher, TopK) else teacher
    return LossInputs(
        student,
        known.columns(0, shared).detached() if isinstance(known, Head) else known,
        labels_N.long(),
        shared,
        spec,
        spec.target_t(t),
        student_written_N,
        temperature if spec.trains_temperature else None,
        mass_rows,
    )


def _check_head(whose: str, head: Head) -> None:
    hidden, weight, bias = head.hidden, head.weight, head.bias
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[-1] != weight.shape[-1] or weight.shape[0] == 0:
        raise UserError(
            f"{whose} hidden states have shape {list(hidden.shape)} and its head {list(weight.shape)}, "
            f"expected [rows, width] and [vocabulary, width] of the same width: flatten batch and sequence, keep only "
            f"supervised rows, and pass the lm_head's weight as it is stored"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise UserError(
            f"{whose} bias has shape {list(bias.shape)}, expected [{weight.shape[0]}], one entry for each row "
            f"of its head {list(weight.shape)}"
        )
    if not (math.isfinite(head.scale) and head.scale > 0):
        raise UserError(f"{whose} logit scale is {head.scale}, expected a finite number above 0 (1 for none)")
    if head.softcap is not None and not (math.isfinite(head.softcap) and head.softcap > 0):
        raise UserError(f"{whose} logit softcap is {head.softcap}, expected a finite number above 0, or None")
    autocast = torch.is_autocast_enabled(hidden.device.type)
    others = [weight] if bias is None else [weight, bias]
    if not autocast and any(tensor.dtype != hidden.dtype for tensor in others):
        raise UserError(
            f"{whose} hidden states are {hidden.dtype} and its head is "
            f"{' and '.join(str(tensor.dtype) for tensor in others)}, expected one dtype: cast one of "
            f"them, or call under torch.autocast"
        )


def _shared_vocabulary(student: Head, teacher: Head | TopK | None, vocabulary: int | None) -> int:
    sizes = [student.vocabulary, teacher.vocabulary] if isinstance(teacher, Head) else [student.vocabulary]
    if vocabulary is None:
        if len(set(sizes)) > 1:
            raise UserError(
                f"the student's head has {sizes[0]} tokens and the teacher's {sizes[1]}: pass vocabulary=, the "
                f"number of leading token ids that mean the same string in both"
            )
        return sizes[0]
    if not 1 <= vocabulary <= min(sizes):
        raise UserError(
            f"vocabulary is {vocabulary}, expected 1 to {min(sizes)}, the smallest head (student "
            f"{list(student.weight.shape)}"
            + (f", teacher {list(teacher.weight.shape)})" if isinstance(teacher, Head) else ")")
            + ": pass the number of leading token ids that both models share"
        )
    return vocabulary
