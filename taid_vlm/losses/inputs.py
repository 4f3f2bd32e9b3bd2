"""The arguments of the loss over two linear heads, checked once for all implementations."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.losses.divergences import at_least_fp32, check_labels
from taid_vlm.losses.objective import LossSpec
from taid_vlm.losses.taid import check_t


@dataclass(frozen=True)
class Head:
    """The last layer of one model at the supervised rows: logits = hidden @ weight.T + bias."""

    hidden: Tensor  # [N, H]
    weight: Tensor  # [V, H]
    bias: Tensor | None  # [V]

    @property
    def rows(self) -> int:
        return self.hidden.shape[0]

    @property
    def vocabulary(self) -> int:
        return self.weight.shape[0]

    def logits(self, rows: slice = slice(None)) -> Tensor:
        """[n, V] logits of some rows: multiplied in the tensors' dtype, or autocast's, and upcast at once."""
        return at_least_fp32(F.linear(self.hidden[rows], self.weight, self.bias))

    def first(self, columns: int) -> "Head":
        """The head of the first ``columns`` tokens alone."""
        bias = None if self.bias is None else self.bias[:columns]
        return Head(self.hidden, self.weight[:columns], bias)

    def in_compute_dtype(self) -> "Head":
        """The head in the dtype autocast would multiply it in; cast here once instead of once per chunk."""
        device = self.hidden.device.type
        # Autocast leaves fp64 alone, and so do we.
        if self.hidden.dtype == torch.float64 or not torch.is_autocast_enabled(device):
            return self
        dtype = torch.get_autocast_dtype(device)
        bias = None if self.bias is None else self.bias.to(dtype)
        return Head(self.hidden.to(dtype), self.weight.to(dtype), bias)


@dataclass(frozen=True)
class LossInputs:
    """Checked arguments. ``teacher``, if any, is already cut to the ``vocabulary`` shared tokens."""

    student: Head
    teacher: Head | None
    labels: Tensor  # [N], int64
    vocabulary: int
    spec: LossSpec
    t: float  # of the target: 1 for objectives whose target is the teacher itself


def check_inputs(
    student: Head, teacher: Head | None, labels_N: Tensor, vocabulary: int | None, spec: LossSpec, t: float
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
                f"loss {spec.name!r} got no teacher_hidden_ND and teacher_head_UD, expected both: pass them, "
                f"or choose the loss 'sft', which needs no teacher"
            )
    else:
        _check_head("teacher", teacher)
        if teacher.rows != student.rows:
            raise UserError(
                f"the student has {student.rows} rows and the teacher {teacher.rows}, expected the same "
                f"supervised rows of both: gather the answer rows of each before calling"
            )
    shared = _shared_vocabulary(student, teacher, vocabulary)
    return LossInputs(
        student,
        None if teacher is None else teacher.first(shared),
        labels_N.long(),
        shared,
        spec,
        spec.target_t(t),
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
    autocast = torch.is_autocast_enabled(hidden.device.type)
    others = [weight] if bias is None else [weight, bias]
    if not autocast and any(tensor.dtype != hidden.dtype for tensor in others):
        raise UserError(
            f"{whose} hidden states are {hidden.dtype} and its head is "
            f"{' and '.join(str(tensor.dtype) for tensor in others)}, expected one dtype: cast one of "
            f"them, or call under torch.autocast"
        )


def _shared_vocabulary(student: Head, teacher: Head | None, vocabulary: int | None) -> int:
    sizes = [student.vocabulary] if teacher is None else [student.vocabulary, teacher.vocabulary]
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
            + (f", teacher {list(teacher.weight.shape)})" if teacher is not None else ")")
            + ": pass the number of leading token ids that both models share"
        )
    return vocabulary
