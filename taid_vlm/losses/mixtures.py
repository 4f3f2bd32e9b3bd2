"""Divergences that compare with an arithmetic mixture of teacher p and student q.

* Generalised Jensen-Shannon divergence: On-Policy Distillation of Language Models (GKD), arXiv 2306.13649.
* Skew forward and skew reverse KL: DistiLLM, Towards Streamlined Distillation for LLMs, arXiv 2402.03898.

log of the mixture is taken by logaddexp, so that a probability which underflows gives neither 0 * log 0 nor a
division by 0. In the closed forms the mixture is clamped at the smallest normal number instead, which can only
matter where both probabilities underflow and the term is 0 anyway.
"""

import math

import torch
from torch import Tensor

from taid_vlm.losses.divergences import (
    at_least_fp32,
    check_number,
    check_same_shape,
    expectation,
    forward_kl,
    forward_kl_closed,
    logaddexp,
    reverse_kl,
    reverse_kl_closed,
)
from taid_vlm.losses.rows import Rows


def jensen_shannon(student_logits_NV: Tensor, teacher_logits_NV: Tensor, beta: float = 0.1) -> Tensor:
    """Generalised JSD (GKD, arXiv 2306.13649): beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q.

    At beta 0 and 1 the formula is 0 for all p and q. By the paper's convention, the limits after division by beta
    (1 - beta), beta 0 is forward KL and beta 1 is reverse KL.

    Args:
        student_logits_NV: [N, V] logits of the student, which receives the gradient.
        teacher_logits_NV: [N, V] logits of the teacher, which receives none.
        beta: weight of the teacher, from 0 to 1; 0.1 in the TAID paper's runs.

    Returns:
        [N] values in nats.

    Raises:
        UserError: the shapes differ or beta lies outside [0, 1].
    """
    check_number("beta of jsd", beta, 0, 1)
    if beta in (0, 1):
        return (reverse_kl if beta else forward_kl)(student_logits_NV, teacher_logits_NV)
    log_q, log_p, log_m = _with_mixture(student_logits_NV, teacher_logits_NV, beta)
    forward = expectation(log_p.exp(), log_p - log_m)
    return beta * forward + (1 - beta) * expectation(log_q.exp(), log_q - log_m)


def skew_forward_kl(student_logits_NV: Tensor, teacher_logits_NV: Tensor, skew: float = 0.1) -> Tensor:
    """Skew KL (DistiLLM, arXiv 2402.03898): KL(p || skew p + (1 - skew) q), the teacher's entropy included.

    Args, returns and raises as ``jensen_shannon``; skew lies strictly between 0 and 1.
    """
    check_number("skew of sfkl", skew, 0, 1, open_ends=True)
    _, log_p, log_m = _with_mixture(student_logits_NV, teacher_logits_NV, skew)
    return expectation(log_p.exp(), log_p - log_m)


def skew_reverse_kl(student_logits_NV: Tensor, teacher_logits_NV: Tensor, skew: float = 0.1) -> Tensor:
    """Skew reverse KL (DistiLLM, arXiv 2402.03898): KL(q || (1 - skew) p + skew q); both q's carry the gradient.

    Args, returns and raises as ``jensen_shannon``; skew lies strictly between 0 and 1.
    """
    check_number("skew of srkl", skew, 0, 1, open_ends=True)
    log_q, _, log_m = _with_mixture(student_logits_NV, teacher_logits_NV, 1 - skew)
    return expectation(log_q.exp(), log_q - log_m)


def jensen_shannon_closed(rows: Rows, beta: float = 0.1) -> Tensor:
    """``jensen_shannon``: dD/dq = (1 - beta) (log q - log m); all other terms cancel."""
    if beta in (0, 1):
        return (reverse_kl_closed if beta else forward_kl_closed)(rows)
    log_m = _mixture(rows, beta).log_()
    of_student = torch.sub(rows.log_q, log_m, out=rows.new())
    of_teacher = torch.sub(rows.log_p, log_m, out=log_m)
    values_n = beta * rows.dot(rows.p, of_teacher) + (1 - beta) * rows.dot(rows.q, of_student)
    rows.keep_slope(of_student.mul_(1 - beta))
    return values_n


def skew_forward_kl_closed(rows: Rows, skew: float = 0.1) -> Tensor:
    """``skew_forward_kl``: dD/dlog q = -(1 - skew) p q / m."""
    m = _mixture(rows, skew)
    slope = torch.div(rows.q, m, out=rows.new()).mul_(rows.p).mul_(skew - 1)
    values_n = rows.dot(rows.p, torch.sub(rows.log_p, m.log_(), out=m))
    rows.keep_log_slope(slope)
    return values_n


def skew_reverse_kl_closed(rows: Rows, skew: float = 0.1) -> Tensor:
    """``skew_reverse_kl``: dD/dq = log q - log m - skew q / m, up to a constant."""
    m = _mixture(rows, 1 - skew)
    share = torch.div(rows.q, m, out=rows.new())
    slope = torch.sub(rows.log_q, m.log_(), out=m)
    values_n = rows.dot(rows.q, slope)
    rows.keep_slope(slope.sub_(share, alpha=skew))
    return values_n


def _with_mixture(student_NV: Tensor, teacher_NV: Tensor, teacher_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """log q, log p and log(w p + (1 - w) q)."""
    check_same_shape(student_NV, teacher_NV)
    log_q = at_least_fp32(student_NV).log_softmax(dim=-1)
    log_p = at_least_fp32(teacher_NV.detach()).log_softmax(dim=-1)
    log_m = logaddexp(log_p + math.log(teacher_weight), log_q + math.log1p(-teacher_weight))
    return log_q, log_p, log_m


def _mixture(rows: Rows, teacher_weight: float) -> Tensor:
    """w p + (1 - w) q in a buffer of its own, never 0."""
    m = torch.mul(rows.p, teacher_weight, out=rows.new()).add_(rows.q, alpha=1 - teacher_weight)
    return m.clamp_(min=torch.finfo(m.dtype).tiny)
