"""ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge Distillation via alpha-beta-Divergence
(arXiv 2505.04560); the divergence itself is that of Cichocki, Cruces and Amari (Entropy 2011, 13(1), 134-170).

    D = -1/(alpha beta) sum_v [p^alpha q^beta - alpha/(alpha+beta) p^(alpha+beta) - beta/(alpha+beta) q^(alpha+beta)]

with the limits beta = 0: 1/alpha^2 sum [p^alpha log(p^alpha / q^alpha) - p^alpha + q^alpha], and alpha = 0 with p and
q exchanged. (1, 0) is forward KL and (0, 1) reverse KL.
"""

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.losses.divergences import at_least_fp32, check_number, check_same_shape, expectation
from taid_vlm.losses.rows import Rows


def alpha_beta(student_logits_NV: Tensor, teacher_logits_NV: Tensor, alpha: float = 0.2, beta: float = 0.7) -> Tensor:
    """The alpha-beta divergence of ABKD (arXiv 2505.04560), one value per row.

    Args:
        student_logits_NV: [N, V] logits of the student, which receives the gradient.
        teacher_logits_NV: [N, V] logits of the teacher, which receives none.
        alpha, beta: at least 0, not both 0; the authors' defaults are 0.2 and 0.7. A larger alpha looks harder at
            where the models differ most, a larger beta at where the student puts its mass.

    Returns:
        [N] values; nats where alpha + beta = 1.

    Raises:
        UserError: the shapes differ, or alpha and beta are out of range.
    """
    check_same_shape(student_logits_NV, teacher_logits_NV)
    _check(alpha, beta)
    log_q = at_least_fp32(student_logits_NV).log_softmax(dim=-1)
    log_p = at_least_fp32(teacher_logits_NV.detach()).log_softmax(dim=-1)
    if beta == 0:
        p, q = (alpha * log_p).exp(), (alpha * log_q).exp()
        return expectation(p, log_p - log_q) / alpha + (q - p).sum(-1) / alpha**2
    if alpha == 0:
        p, q = (beta * log_p).exp(), (beta * log_q).exp()
        return expectation(q, log_q - log_p) / beta + (p - q).sum(-1) / beta**2
    both, total = (alpha * log_p + beta * log_q).exp(), alpha + beta
    p, q = (total * log_p).exp(), (total * log_q).exp()
    return (alpha / total * p + beta / total * q - both).sum(-1) / (alpha * beta)


def alpha_beta_closed(rows: Rows, alpha: float = 0.2, beta: float = 0.7) -> Tensor:
    """``alpha_beta``: dD/dlog q = (q^(alpha+beta) - p^alpha q^beta) / alpha, at alpha = 0 q^beta (log q - log p)."""
    total = alpha + beta
    q = _power(rows, rows.log_q, total)
    p = _power(rows, rows.log_p, total)
    if alpha == 0:
        slope = torch.mul(q, rows.log_ratio, out=rows.new()).neg_()
        values_n = slope.sum(-1) / beta + (p.sum(-1) - q.sum(-1)) / beta**2
        rows.keep_log_slope(slope)
        return values_n
    if beta == 0:
        values_n = rows.dot(p, rows.log_ratio) / alpha + (q.sum(-1) - p.sum(-1)) / alpha**2
        rows.keep_log_slope(q.sub_(p).div_(alpha))
        return values_n
    both = torch.mul(rows.log_p, alpha, out=rows.new()).add_(rows.log_q, alpha=beta).exp_()
    values_n = (p.sum(-1) * alpha + q.sum(-1) * beta) / total - both.sum(-1)
    rows.keep_log_slope(q.sub_(both).div_(alpha))
    return values_n / (alpha * beta)


def _power(rows: Rows, log_nV: Tensor, exponent: float) -> Tensor:
    return torch.mul(log_nV, exponent, out=rows.new()).exp_()


def _check(alpha: float, beta: float) -> None:
    check_number("alpha of ab", alpha, 0, 10)
    check_number("beta of ab", beta, 0, 10)
    if alpha + beta == 0:
        raise UserError("alpha and beta of ab are both 0, expected one above 0 (the authors use 0.2 and 0.7)")
