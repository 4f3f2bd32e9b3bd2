"""AMiD: Knowledge Distillation for LLMs with alpha-mixture Assistant Distribution (arXiv 2510.15982).

The teacher is compared not with the student but with an assistant r between the two,

    r proportional to (lam p^g + (1 - lam) q^g)^(1/g),  g = (1 - alpha) / 2,     alpha = 1: p^lam q^(1 - lam),

and the gradient reaches the student through r. alpha = -1 is the mixture of DistiLLM, alpha = 1 that of TAID (where r is
the target instead, and held fixed).
"""

import math

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.losses.alpha_beta import alpha_beta, alpha_beta_closed
from taid_vlm.losses.divergences import (
    at_least_fp32,
    check_number,
    check_same_shape,
    forward_kl,
    forward_kl_closed,
    reverse_kl,
    reverse_kl_closed,
)
from taid_vlm.losses.rows import Rows, log_softmax_

DIVERGENCES = {
    "kl": (forward_kl, forward_kl_closed),
    "rkl": (reverse_kl, reverse_kl_closed),
    "ab": (alpha_beta, alpha_beta_closed),
}


def amid(
    student_logits_NV: Tensor,
    teacher_logits_NV: Tensor,
    alpha: float = -5.0,
    lam: float = 0.1,
    divergence: str = "kl",
) -> Tensor:
    """AMiD (arXiv 2510.15982): D(p, r) with r the alpha-mixture of teacher and student.

    Args:
        student_logits_NV: [N, V] logits of the student, which receives the gradient.
        teacher_logits_NV: [N, V] logits of the teacher, which receives none.
        alpha: shape of the path between the models; -1 arithmetic, 1 geometric, 3 harmonic mean.
        lam: weight of the teacher, from 0 (r = q) to below 1.
        divergence: ``kl`` KL(p || r), ``rkl`` KL(r || p), or ``ab`` with its defaults (the paper's main table).

    Returns:
        [N] values in nats.

    Raises:
        UserError: the shapes differ, an option is out of range, or the divergence is unknown.
    """
    check_same_shape(student_logits_NV, teacher_logits_NV)
    check_number("alpha of amid", alpha, -100, 100)
    if not 0 <= lam < 1:
        raise UserError(f"lam of amid is {lam}, expected at least 0 and below 1")
    if divergence not in DIVERGENCES:
        raise UserError(f"unknown divergence of amid {divergence!r}: {did_you_mean(divergence, DIVERGENCES)}")
    log_q = at_least_fp32(student_logits_NV).log_softmax(dim=-1)
    log_p = at_least_fp32(teacher_logits_NV.detach()).log_softmax(dim=-1)
    if lam == 0:
        log_r = log_q
    elif alpha == 1:
        log_r = lam * log_p + (1 - lam) * log_q
    else:
        g = (1 - alpha) / 2
        log_r = torch.logaddexp(math.log(lam) + g * log_p, math.log1p(-lam) + g * log_q) / g
    return DIVERGENCES[divergence][0](log_r, teacher_logits_NV)


def amid_closed(rows: Rows, alpha: float = -5.0, lam: float = 0.1, divergence: str = "kl") -> Tensor:
    """``amid``: with G = dD/d(logits of r), dD/dlog q = c G, c = (1 - lam) q^g / (lam p^g + (1 - lam) q^g)."""
    closed = DIVERGENCES[divergence][1]
    if lam == 0:
        return closed(rows)
    share: Tensor | None = None
    if alpha == 1:
        mixed = torch.add(rows.log_q, rows.log_ratio, alpha=lam, out=rows.new())
    else:
        g = (1 - alpha) / 2
        # c = sigmoid(g (log q - log p) + log((1 - lam) / lam)) and log r = log q + (log(1 - lam) - log c) / g.
        share = torch.mul(rows.log_ratio, -g, out=rows.new()).add_(math.log1p(-lam) - math.log(lam))
        log_share = torch.nn.functional.logsigmoid(share)
        mixed = torch.sub(rows.log_q, log_share, alpha=1 / g, out=rows.new()).add_(math.log1p(-lam) / g)
        share.sigmoid_()
    log_r, r = log_softmax_(mixed, rows.new())
    towards = rows.with_(log_q=log_r, q=r, gradient=rows.new())
    values_n = closed(towards)
    slope = towards.gradient
    if share is None:
        slope.mul_(1 - lam)
    else:
        slope.mul_(share)
    rows.keep_log_slope(slope)
    return values_n
