"""Losses that weigh forward and reverse KL by where teacher and student differ.

* Adaptive KL: Rethinking Kullback-Leibler Divergence in Knowledge Distillation for LLMs, arXiv 2404.02657.
* ToDi: Token-wise Distillation via Fine-Grained Divergence Control, arXiv 2505.16297.

The weights of both are constants of the step: no gradient flows through them.
"""

import torch
from torch import Tensor

from taid_vlm.losses.divergences import (
    at_least_fp32,
    check_number,
    check_same_shape,
    expectation,
    forward_kl,
    reverse_kl,
)
from taid_vlm.losses.rows import Rows


def adaptive_kl(student_logits_NV: Tensor, teacher_logits_NV: Tensor, mu: float = 0.5) -> Tensor:
    """Adaptive KL (arXiv 2404.02657): w KL(p || q) + (1 - w) KL(q || p), w the head's share of sum_v |p - q|.

    The head of a row is the teacher's most probable token, and after it every next one while their probabilities add
    up to at most ``mu``: the token that crosses ``mu`` belongs to the tail. Where the models agree the value is 0.

    Args:
        student_logits_NV: [N, V] logits of the student, which receives the gradient.
        teacher_logits_NV: [N, V] logits of the teacher, which receives none.
        mu: teacher mass of the head, strictly between 0 and 1.

    Returns:
        [N] values in nats.

    Raises:
        UserError: the shapes differ or mu is out of range.
    """
    check_same_shape(student_logits_NV, teacher_logits_NV)
    check_number("mu of adaptive_kl", mu, 0, 1, open_ends=True)
    q = at_least_fp32(student_logits_NV.detach()).softmax(dim=-1)
    p = at_least_fp32(teacher_logits_NV.detach()).softmax(dim=-1)
    weight_N = head_weight(p, q, mu)
    forward, reverse = (
        forward_kl(student_logits_NV, teacher_logits_NV),
        reverse_kl(student_logits_NV, teacher_logits_NV),
    )
    return weight_N * forward + (1 - weight_N) * reverse


def todi(student_logits_NV: Tensor, teacher_logits_NV: Tensor) -> Tensor:
    """ToDi (arXiv 2505.16297): sum_v w p log(p / q) + (1 - w) q log(q / p), w = sigmoid(log(p / q)) held fixed.

    Tokens that the student underrates (p > q) count by forward KL, overrated ones by reverse KL.

    Args, returns and raises as ``adaptive_kl``, without ``mu``.
    """
    check_same_shape(student_logits_NV, teacher_logits_NV)
    log_q = at_least_fp32(student_logits_NV).log_softmax(dim=-1)
    log_p = at_least_fp32(teacher_logits_NV.detach()).log_softmax(dim=-1)
    # sigmoid(log p - log q), but for two impossible tokens, whose ratio is not a number.
    both_impossible = (log_p == -torch.inf) & (log_q == -torch.inf)
    weight = (log_p - log_q).detach().masked_fill(both_impossible, 0.0).sigmoid()
    forward = expectation(weight * log_p.exp(), log_p - log_q)
    return forward + expectation((1 - weight) * log_q.exp(), log_q - log_p)


def adaptive_kl_closed(rows: Rows, mu: float = 0.5) -> Tensor:
    """``adaptive_kl``: w (q - p) + (1 - w) q (log q - log p - KL(q || p))."""
    weight_n = head_weight(rows.p, rows.q, mu)
    forward_n, reverse_n = rows.forward_kl, -rows.dot(rows.q, rows.log_ratio)
    weight_n1, rest_n1 = weight_n.unsqueeze(-1), 1 - weight_n.unsqueeze(-1)
    scaled_p = torch.mul(rows.p, weight_n1, out=rows.new())
    of_q = torch.mul(rows.log_ratio, -rest_n1, out=rows.new()).add_(weight_n1 - rest_n1 * reverse_n.unsqueeze(-1))
    torch.sub(of_q.mul_(rows.q), scaled_p, out=rows.gradient)
    return weight_n * forward_n + (1 - weight_n) * reverse_n


def todi_closed(rows: Rows) -> Tensor:
    """``todi``: dD/dlog q = (1 - w) q (log q - log p + 1) - w p."""
    of_teacher = torch.sigmoid(rows.log_ratio, out=rows.new())
    of_student = torch.sub(rows.q, torch.mul(of_teacher, rows.q, out=rows.new()), out=rows.new())
    of_teacher.mul_(rows.p)
    slope = of_student.sub_(of_teacher)
    values_n = -rows.dot(slope, rows.log_ratio)
    # (1 - w) q (1 - log ratio) - w p = slope - (1 - w) q log ratio
    rest = torch.add(slope, of_teacher, out=of_teacher).mul_(rows.log_ratio)
    rows.keep_log_slope(slope.sub_(rest))
    return values_n


def head_weight(p_NV: Tensor, q_NV: Tensor, mu: float) -> Tensor:
    """The head's share of sum_v |p - q| of each row, [N]; 1 where the models agree (the loss is then 0 anyway)."""
    places, inside = _head(p_NV, mu)
    head_N = ((p_NV.gather(-1, places) - q_NV.gather(-1, places)).abs() * inside).sum(-1)
    total_N = torch.linalg.vector_norm(p_NV - q_NV, ord=1, dim=-1)
    share = torch.where(total_N > 0, head_N / total_N, 1.0)
    return share.clamp(max=1.0)  # the two sums round differently


def _head(p_NV: Tensor, mu: float) -> tuple[Tensor, Tensor]:
    """Places [N, k] of the k most probable tokens, k large enough, and which of them are in the head."""
    vocabulary = p_NV.shape[-1]
    k = min(64, vocabulary)
    while True:
        top = p_NV.topk(k, dim=-1)
        mass = top.values.cumsum(dim=-1)
        # The tail must have begun in every row; sorting the whole vocabulary would cost a hundred times as much.
        if k == vocabulary or bool((mass[:, -1] > mu).all()):
            inside = mass <= mu
            inside[:, 0] = True
            return top.indices, inside
        k = min(8 * k, vocabulary)
