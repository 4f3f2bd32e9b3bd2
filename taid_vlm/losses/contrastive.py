"""DistiLLM-2: A Contrastive Approach Boosts the Distillation of LLMs (arXiv 2503.07067)."""

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.losses.divergences import check_number
from taid_vlm.losses.mixtures import (
    skew_forward_kl,
    skew_forward_kl_closed,
    skew_reverse_kl,
    skew_reverse_kl_closed,
)
from taid_vlm.losses.rows import Rows


def distillm2(
    student_logits_NV: Tensor,
    teacher_logits_NV: Tensor,
    student_written_N: Tensor | None = None,
    skew: float = 0.1,
    student_weight: float = 1.0,
) -> Tensor:
    """The pair of DistiLLM-2 (arXiv 2503.07067): each row by who wrote its answer,

    (2 - w) skew KL where the teacher (or the data set) wrote it, w skew reverse KL where the student did.

    Args:
        student_logits_NV: [N, V] logits of the student, which receives the gradient.
        teacher_logits_NV: [N, V] logits of the teacher, which receives none.
        student_written_N: [N] booleans; None is all False.
        skew: of both, strictly between 0 and 1. The paper adapts it per sample; here it is its base value.
        student_weight: w, from 0 to 2; the paper raises it from 1 to 1.5 in the course of training.

    Returns:
        [N] values in nats.

    Raises:
        UserError: shapes differ or an option is out of range.
    """
    check_number("student_weight of distillm2", student_weight, 0, 2)
    forward_N = (2 - student_weight) * skew_forward_kl(student_logits_NV, teacher_logits_NV, skew)
    if student_written_N is None:
        return forward_N
    check_student_written(student_written_N, len(forward_N))
    reverse_N = student_weight * skew_reverse_kl(student_logits_NV, teacher_logits_NV, skew)
    return torch.where(student_written_N, reverse_N, forward_N)


def distillm2_closed(rows: Rows, skew: float = 0.1, student_weight: float = 1.0) -> Tensor:
    """``distillm2``: the closed forms of the two, weighted and joined row by row."""
    if rows.student_written is None:
        values_n = skew_forward_kl_closed(rows, skew)
        rows.gradient.mul_(2 - student_weight)
        return (2 - student_weight) * values_n
    theirs_n = rows.student_written.to(rows.q.dtype)
    forward = rows.with_(gradient=rows.new())
    forward_n = skew_forward_kl_closed(forward, skew)
    reverse_n = skew_reverse_kl_closed(rows, skew)
    forward_weight_n, reverse_weight_n = (2 - student_weight) * (1 - theirs_n), student_weight * theirs_n
    rows.gradient.mul_(reverse_weight_n.unsqueeze(-1))
    rows.gradient.addcmul_(forward.gradient, forward_weight_n.unsqueeze(-1))
    return forward_weight_n * forward_n + reverse_weight_n * reverse_n


def check_student_written(student_written_N: Tensor, rows: int) -> None:
    """Refuse a mask that does not say yes or no for each row."""
    if student_written_N.shape != (rows,) or student_written_N.dtype != torch.bool:
        raise UserError(
            f"student_written has shape {list(student_written_N.shape)} and dtype {student_written_N.dtype}, "
            f"expected [{rows}] booleans, one for each supervised row"
        )
