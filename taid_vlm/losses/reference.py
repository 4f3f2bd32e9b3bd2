"""``semantics: reference``: what the TAID authors' code computes (SakanaAI/TAID, commit a062892), faults included.

For parity with published rows only. Where these differ from the methods' papers, ``docs/losses.md`` says how. All are
plain: one value per row, gradient by autograd, run through the fused op chunk by chunk with autograd inside. Arguments
are as in the plain functions; the authors' code then takes the mean over the supervised rows of a micro-batch, but for
DKD, which it divides by all batch * (length - 1) positions.
"""

import math

import torch
from torch import Tensor

from taid_vlm.losses.divergences import at_least_fp32


def _finite_product(p: Tensor, log_q: Tensor, *logits: Tensor) -> Tensor:
    """p * log q, and 0 where one of ``logits`` is infinite: the authors' way of masking."""
    infinite = torch.stack([z.isinf() for z in logits]).any(dim=0)
    return (p * log_q).masked_fill(infinite, 0)


def _softmax(logits: Tensor) -> Tensor:
    return at_least_fp32(logits).softmax(dim=-1)


def _log_softmax(logits: Tensor) -> Tensor:
    return at_least_fp32(logits).log_softmax(dim=-1)


def taid(student: Tensor, teacher: Tensor, t: float) -> Tensor:
    """Cross-entropy -sum p_t log q; the logits are mixed in their own dtype."""
    target = _softmax((1 - t) * student.detach() + t * teacher.detach())
    return -_finite_product(target, _log_softmax(student), student).sum(-1)


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy -sum p log q."""
    return -_finite_product(_softmax(teacher.detach()), _log_softmax(student), student).sum(-1)


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Reverse KL."""
    q = _softmax(student)
    difference = _finite_product(q, _log_softmax(student), student, teacher) - _finite_product(
        q, _log_softmax(teacher.detach()), student, teacher
    )
    return difference.sum(-1)


def total_variation(student: Tensor, teacher: Tensor) -> Tensor:
    """Total variation."""
    gap = (_softmax(teacher.detach()) - _softmax(student)).abs()
    return 0.5 * gap.masked_fill(student.isinf() | teacher.isinf(), 0).sum(-1)


def jensen_shannon(student: Tensor, teacher: Tensor, beta: float = 0.1) -> Tensor:
    """Generalised JSD with the logarithm of softmax: NaN where a probability underflows."""
    p, q = _softmax(teacher.detach()), _softmax(student)
    log_m = (beta * p + (1 - beta) * q).log()
    of_student = _finite_product(q, q.log() - log_m, student, teacher).sum(-1)
    return (1 - beta) * of_student + beta * _finite_product(p, p.log() - log_m, student, teacher).sum(-1)


def skew_forward_kl(student: Tensor, teacher: Tensor, skew: float = 0.1) -> Tensor:
    """-sum p log(skew p + (1 - skew) q), without the teacher's entropy; NaN where a probability underflows."""
    p, q = _softmax(teacher.detach()), _softmax(student)
    return -_finite_product(p, (skew * p + (1 - skew) * q).log(), student, teacher).sum(-1)


def skew_reverse_kl(student: Tensor, teacher: Tensor, skew: float = 0.1) -> Tensor:
    """Skew reverse KL; NaN where a probability underflows."""
    p, q = _softmax(teacher.detach()), _softmax(student)
    log_m = ((1 - skew) * p + skew * q).log()
    return _finite_product(q, _log_softmax(student) - log_m, student, teacher).sum(-1)


def adaptive_kl(student: Tensor, teacher: Tensor, mu: float = 0.5) -> Tensor:
    """Weights from gaps in vocabulary order under a mask of sorted positions, and not detached; forward part a CE."""
    p, q = _softmax(teacher.detach()), _softmax(student)
    ascending = teacher.detach().sort(dim=-1).values.softmax(dim=-1)
    head = ascending.cumsum(dim=-1) >= mu
    gap = (p - q).abs()
    head_gap, tail_gap = (head * gap).sum(-1), (~head * gap).sum(-1)
    weight = head_gap / (head_gap + tail_gap)
    return weight * forward_kl(student, teacher) + tail_gap / (head_gap + tail_gap) * reverse_kl(student, teacher)


def ctkd(student: Tensor, teacher: Tensor, temperature: Tensor | float = 1 + 20 / (1 + math.exp(-1))) -> Tensor:
    """T^2 times a cross-entropy at T = 15.62, which the authors' optimizer never trains."""
    student, teacher = student / temperature, teacher.detach() / temperature
    return temperature**2 * forward_kl(student, teacher)


def dkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 0.5,
    temperature: float = 1.0,
) -> Tensor:
    """DKD in the logits' own dtype, with the logarithm of a softmax: NaN where a probability underflows."""
    z_q, z_p = student / temperature, teacher.detach() / temperature
    is_label = torch.arange(student.shape[-1], device=student.device) == labels.unsqueeze(-1)
    q, p = z_q.softmax(-1), z_p.softmax(-1)
    two_q, two_p = (torch.stack([(x * is_label).sum(-1), (x * ~is_label).sum(-1)], dim=-1) for x in (q, p))
    target = torch.nn.functional.kl_div(two_q.log(), two_p, reduction="none").sum(-1)
    rest_q, rest_p = (z_q - 1000.0 * is_label).log_softmax(-1), (z_p - 1000.0 * is_label).softmax(-1)
    others = torch.nn.functional.kl_div(rest_q, rest_p, reduction="none").sum(-1)
    return temperature**2 * (alpha * target + beta * others)
