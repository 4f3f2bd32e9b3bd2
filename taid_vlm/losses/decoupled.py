"""Decoupled Knowledge Distillation (DKD, arXiv 2203.08679)."""

import torch
from torch import Tensor

from taid_vlm.losses.divergences import at_least_fp32, check_number, check_same_shape, expectation
from taid_vlm.losses.rows import Rows


def dkd(
    student_logits_NV: Tensor,
    teacher_logits_NV: Tensor,
    labels_N: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 1.0,
) -> Tensor:
    """DKD (arXiv 2203.08679, eq. 7): temperature^2 (alpha TCKD + beta NCKD) of each row.

    TCKD is the KL of the two-way distributions (label, not the label), NCKD the KL of the distributions over the other
    tokens. Forward KL is TCKD + (1 - p_label) NCKD. A row whose label is -1, because it lies outside the shared
    vocabulary, has no target part: TCKD is 0 and NCKD is forward KL.

    Args:
        student_logits_NV: [N, V] logits of the student, which receives the gradient.
        teacher_logits_NV: [N, V] logits of the teacher, which receives none.
        labels_N: [N] token ids in [-1, V).
        alpha, beta: weights, at least 0; the paper uses 1 and mostly 8, the TAID authors 1 and 0.5.
        temperature: above 0; both logits are divided by it.

    Returns:
        [N] values in nats.

    Raises:
        UserError: the shapes differ or an option is out of range.
    """
    check_same_shape(student_logits_NV, teacher_logits_NV)
    check_number("alpha of dkd", alpha, 0, 1e4)
    check_number("beta of dkd", beta, 0, 1e4)
    check_number("temperature of dkd", temperature, 0, 1e4, open_ends=True)
    log_q = (at_least_fp32(student_logits_NV) / temperature).log_softmax(dim=-1)
    log_p = (at_least_fp32(teacher_logits_NV.detach()) / temperature).log_softmax(dim=-1)
    is_label = torch.arange(log_q.shape[-1], device=log_q.device) == labels_N.unsqueeze(-1)
    two_q, two_p = _two_way(log_q, is_label), _two_way(log_p, is_label)
    target_N = expectation(two_p.exp(), two_p - two_q)
    # -inf stays in the softmax but not in the difference, where it would be -inf - -inf.
    rest_q = log_q.masked_fill(is_label, -torch.inf).log_softmax(dim=-1).masked_fill(is_label, 0.0)
    rest_p = log_p.masked_fill(is_label, -torch.inf).log_softmax(dim=-1)
    others_N = expectation(rest_p.exp(), rest_p - rest_q)
    return temperature**2 * (alpha * target_N + beta * others_N)


def dkd_closed(rows: Rows, alpha: float = 1.0, beta: float = 8.0, temperature: float = 1.0) -> Tensor:
    """``dkd``: at the label alpha (q_y - p_y); elsewhere, with r the student over the other tokens and s the teacher,
    r (beta + alpha (p_y - q_y)) - beta s.
    """
    place_n1 = rows.labels.clamp(min=0).unsqueeze(-1)
    known_n1 = (rows.labels >= 0).unsqueeze(-1)
    log_r, r, q_y, log_q_y, log_not_q = _without_label(rows, rows.log_q, place_n1, known_n1, temperature)
    log_s, s, p_y, log_p_y, log_not_p = _without_label(rows, rows.log_p, place_n1, known_n1, temperature)
    target_n1 = p_y * (log_p_y - log_q_y) + (1 - p_y) * (log_not_p - log_not_q)
    others_n = rows.dot(s, log_s.sub_(log_r))
    gradient = torch.mul(r, beta + alpha * (p_y - q_y), out=rows.gradient).sub_(s, alpha=beta)
    # r and s are 0 at the label.
    gradient.scatter_add_(-1, place_n1, alpha * (q_y - p_y))
    gradient.mul_(temperature)
    return temperature**2 * (alpha * target_n1.squeeze(-1) + beta * others_n)


def _two_way(log_p_NV: Tensor, is_label_NV: Tensor) -> Tensor:
    """[N, 2] log-probabilities of the label and of everything else."""
    label = log_p_NV.masked_fill(~is_label_NV, -torch.inf).logsumexp(dim=-1)
    others = log_p_NV.masked_fill(is_label_NV, -torch.inf).logsumexp(dim=-1)
    return torch.stack([label, others], dim=-1)


def _without_label(
    rows: Rows, log_nV: Tensor, place_n1: Tensor, known_n1: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities and probabilities over the other tokens, and p, log p, log(1 - p) of the label."""
    logits = torch.div(log_nV, temperature, out=rows.new())
    label_n1 = logits.gather(-1, place_n1)
    # As good as impossible, yet finite, so that a difference of two of them is 0.
    logits.scatter_(-1, place_n1, torch.where(known_n1, torch.finfo(logits.dtype).min / 4, label_n1))
    rest = torch.softmax(logits, dim=-1, out=rows.new())
    lse_rest = logits.amax(-1, keepdim=True) - rest.amax(-1, keepdim=True).log()
    lse = torch.where(known_n1, torch.logaddexp(lse_rest, label_n1), lse_rest)
    log_label = torch.where(known_n1, label_n1 - lse, 0.0)
    label = torch.where(known_n1, log_label.exp(), 0.0)
    return logits.sub_(lse_rest), rest, label, log_label, lse_rest - lse
