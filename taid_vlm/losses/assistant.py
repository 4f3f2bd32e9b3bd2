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
    logaddexp,
    reverse_kl,
    reverse_kl_closed,
)
from taid_vlm.losses.rows import Rows, log_softmax_

MEASURES = {
    "kl": (forward_kl, forward_kl_closed),
    "rkl": (reverse_kl, reverse_kl_closed),
    "ab": (alpha_beta, alpha_beta_closed),
}


def amid(
    student_logits_NV: Tensor,
    teacher_logits_NV: Tensor,
    alpha: float = -5.0,
    lam: float = 0.1,
    measure: str = "kl",
) -> Tensor:
    """AMiD (arXiv 2510.15982): D(p, r) with r the alpha-mixture of teacher and student.

    Args:
        student_logits_NV: [N, V] logits of the student, which receives the gradient.
        teacher_logits_NV: [N, V] logits of the teacher, which receives none.
        alpha: shape of the path between the models; -1 arithmetic, 1 geometric, 3 harmonic mean.
        lam: weight of the teacher, from 0 (r = q) to below 1.
        measure: ``kl`` KL(p || r), ``rkl`` KL(r || p), or ``ab`` with its defaults (the paper's main table).

    Returns:
        [N] values in nats.

    Raises:
        UserError: the shapes differ, an option is out of range, or the measure is unknown.
    """
    check_same_shape(student_logits_NV, teacher_logits_NV)
    check_number("alpha of amid", alpha, -100, 100)
    if not 0 <= lam < 1:
        raise UserError(f"lam of amid is {lam}, expected at least 0 and below 1")
    if measure not in MEASURES:
        raise UserError(f"unknown measure of amid {measure!r}: {did_you_mean(measure, MEASURES)}")
    log_q = at_least_fp32(student_logits_NV).log_softmax(dim=-1)
    log_p = at_least_fp32(teacher_logits_NV.detach()).log_softmax(dim=-1)
    log_r = _assistant(log_p, log_q, alpha, lam)
    return MEASURES[measure][0](log_r, teacher_logits_NV)


def _assistant(log_p_NV: Tensor, log_q_NV: Tensor, alpha: float, lam: float) -> Tensor:
    """log r, up to a constant of each row."""
    if lam == 0:
        return log_q_NV
    g = (1 - alpha) / 2
    if g > 0:
        return logaddexp(math.log(lam) + g * log_p_NV, math.log1p(-lam) + g * log_q_NV) / g
    # Geometric and harmonic means rule out whatever one of the models rules out. Filled in before the powers, which
    # would be infinite there, and their gradient not a number.
    ruled_out = (log_p_NV == -torch.inf) | (log_q_NV == -torch.inf)
    log_p_NV, log_q_NV = log_p_NV.masked_fill(ruled_out, 0.0), log_q_NV.masked_fill(ruled_out, 0.0)
    if g == 0:
        log_r_NV = lam * log_p_NV + (1 - lam) * log_q_NV
    else:
        log_r_NV = logaddexp(math.log(lam) + g * log_p_NV, math.log1p(-lam) + g * log_q_NV) / g
    return log_r_NV.masked_fill(ruled_out, -torch.inf)


def amid_closed(rows: Rows, alpha: float = -5.0, lam: float = 0.1, measure: str = "kl") -> Tensor:
    """``amid``: with G = dD/d(logits of r), dD/dlog q = c G, c = (1 - lam) q^g / (lam p^g + (1 - lam) q^g)."""
    closed = MEASURES[measure][1]
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
