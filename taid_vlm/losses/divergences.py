"""Cross-entropy, forward and reverse KL and total variation between two rows of logits, one value per row, in nats.

Everything is computed in fp32 (fp64 if the logits are) after an upcast of the logits. No function sends
a gradient to the teacher. A logit of -inf is a token that cannot occur; 0 * (-inf) is 0, by selection.

The student enters as ``logsumexp(z) - sum_v p_v z_v`` rather than as ``-sum_v p_v log_softmax(z)_v``. The
values agree; the gradient of the first is softmax(z) - p to the last bit, that of the second is
softmax(z) * sum(p) - p, and in floating point sum(p) is not 1: a student that agrees with its
target would still be pushed around by rounding noise.
"""

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.losses.rows import Rows


def at_least_fp32(values: Tensor) -> Tensor:
    """``values`` in fp32, or as they are if they are fp64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def centred(logits_NV: Tensor) -> Tensor:
    """Each row minus its largest entry: the same softmax, and no digits lost to a common offset."""
    return logits_NV - logits_NV.detach().amax(dim=-1, keepdim=True)


def expectation(p_NV: Tensor, values_NV: Tensor) -> Tensor:
    """sum_v p_v values_v of each row, [N], where entries of probability 0 count as 0 even if infinite."""
    return (p_NV * values_NV.masked_fill(p_NV == 0, 0.0)).sum(dim=-1)


def logaddexp(left: Tensor, right: Tensor) -> Tensor:
    """log(exp(left) + exp(right)), where two entries of -inf give -inf and a gradient of 0 rather than of NaN."""
    neither = (left == -torch.inf) & (right == -torch.inf)
    return torch.logaddexp(left.masked_fill(neither, 0.0), right.masked_fill(neither, 0.0)).masked_fill(
        neither, -torch.inf
    )


def softmax_from(logits_NV: Tensor, lse_N1: Tensor) -> Tensor:
    """softmax by the very expression that autograd uses for the gradient of logsumexp."""
    return (logits_NV - lse_N1).exp()


def kl_to_target(student_NV: Tensor, target_NV: Tensor) -> Tensor:
    """KL(softmax(target) || softmax(student)) per row, [N], of centred logits of at least fp32.

    The gradient with respect to ``student_NV`` is softmax(student) - softmax(target), exactly zero when both
    are the same bits. ``target_NV`` gets none.
    """
    target_NV = target_NV.detach()
    lse_student_N1 = student_NV.logsumexp(dim=-1, keepdim=True)
    lse_target_N1 = target_NV.logsumexp(dim=-1, keepdim=True)
    target_p_NV = softmax_from(target_NV, lse_target_N1)
    return (lse_student_N1 - lse_target_N1).squeeze(-1) + expectation(target_p_NV, target_NV - student_NV)


def cross_entropy(student_logits_NV: Tensor, labels_N: Tensor) -> Tensor:
    """Cross-entropy of integer labels: -log q(label).

    Args:
        student_logits_NV: [N, V] logits, any floating dtype.
        labels_N: [N] integers in [0, V). There is no ignore index: select the supervised rows first.

    Returns:
        [N] values in nats.

    Raises:
        UserError: shapes do not fit, labels are not integers, or a label lies outside the vocabulary.
    """
    check_labels(labels_N, rows=student_logits_NV.shape[0], vocabulary=student_logits_NV.shape[-1])
    student_NV = centred(at_least_fp32(student_logits_NV))
    label_logit_N = student_NV.gather(-1, labels_N.long().unsqueeze(-1)).squeeze(-1)
    return student_NV.logsumexp(dim=-1) - label_logit_N


def forward_kl(student_logits_NV: Tensor, teacher_logits_NV: Tensor) -> Tensor:
    """Forward KL of knowledge distillation (Hinton et al., arXiv 1503.02531): sum_v p (log p - log q).

    p is the teacher, q the student; the teacher's entropy is part of the value, so it is 0 when they agree.

    Args:
        student_logits_NV: [N, V] logits of the student; receives the gradient q - p.
        teacher_logits_NV: [N, V] logits of the teacher; receives none.

    Returns:
        [N] values in nats; infinite where the student rules out a token that the teacher allows.

    Raises:
        UserError: the two shapes differ.
    """
    check_same_shape(student_logits_NV, teacher_logits_NV)
    student_NV = centred(at_least_fp32(student_logits_NV))
    return kl_to_target(student_NV, centred(at_least_fp32(teacher_logits_NV.detach())))


def reverse_kl(student_logits_NV: Tensor, teacher_logits_NV: Tensor) -> Tensor:
    """Reverse KL (MiniLLM, Gu et al., arXiv 2306.08543): sum_v q (log q - log p).

    Args, returns and raises as ``forward_kl``.
    """
    check_same_shape(student_logits_NV, teacher_logits_NV)
    log_q_NV = at_least_fp32(student_logits_NV).log_softmax(dim=-1)
    log_p_NV = at_least_fp32(teacher_logits_NV.detach()).log_softmax(dim=-1)
    return expectation(log_q_NV.exp(), log_q_NV - log_p_NV)


def total_variation(student_logits_NV: Tensor, teacher_logits_NV: Tensor) -> Tensor:
    """Total variation distance (f-DISTILL, Wen et al., arXiv 2307.15190): 1/2 sum_v |p - q|, from 0 to 1.

    Args, returns and raises as ``forward_kl``.
    """
    check_same_shape(student_logits_NV, teacher_logits_NV)
    q_NV = at_least_fp32(student_logits_NV).softmax(dim=-1)
    p_NV = at_least_fp32(teacher_logits_NV.detach()).softmax(dim=-1)
    return 0.5 * (q_NV - p_NV).abs().sum(dim=-1)


def forward_kl_closed(rows: Rows) -> Tensor:
    """``forward_kl``: dD/dz = q - p."""
    values_n = rows.forward_kl
    torch.sub(rows.q, rows.p, out=rows.gradient)
    return values_n


def reverse_kl_closed(rows: Rows) -> Tensor:
    """``reverse_kl``: dD/dz = q (log q - log p - D)."""
    values_n = -rows.dot(rows.q, rows.log_ratio)
    torch.add(rows.log_ratio, values_n.unsqueeze(-1), out=rows.gradient).mul_(rows.q).neg_()
    return values_n


def total_variation_closed(rows: Rows) -> Tensor:
    """``total_variation``: dD/dq = 1/2 sign(q - p)."""
    gap_nV = torch.sub(rows.q, rows.p, out=rows.new())
    values_n: Tensor = 0.5 * torch.linalg.vector_norm(gap_nV, ord=1, dim=-1)
    rows.keep_slope(gap_nV.sign_().mul_(0.5))
    return values_n


def check_same_shape(student_logits_NV: Tensor, teacher_logits_NV: Tensor) -> None:
    """Refuse logits of different shapes: broadcasting would turn the mistake into a number."""
    if student_logits_NV.shape != teacher_logits_NV.shape:
        raise UserError(
            f"student logits have shape {list(student_logits_NV.shape)}, teacher logits "
            f"{list(teacher_logits_NV.shape)}; both must be [rows, vocabulary] of the same supervised rows: "
            f"pair the rows, and cut both vocabularies to their shared prefix"
        )


def check_labels(labels_N: Tensor, *, rows: int, vocabulary: int) -> None:
    """Refuse labels that do not name one token of the vocabulary for each row."""
    if labels_N.shape != (rows,):
        raise UserError(
            f"labels have shape {list(labels_N.shape)}, expected [{rows}]: one label for each supervised row"
        )
    if labels_N.is_floating_point() or labels_N.dtype in (torch.bool, torch.complex64, torch.complex128):
        raise UserError(f"labels have dtype {labels_N.dtype}, expected integers: pass token ids")
    if bool(((labels_N < 0) | (labels_N >= vocabulary)).any()):
        raise UserError(
            f"labels span {int(labels_N.min())} to {int(labels_N.max())}, expected 0 to {vocabulary - 1} for "
            f"a vocabulary of {vocabulary}: keep only supervised rows (ignore-index rows must be dropped), and "
            f"check that the labels were made by the student's tokenizer"
        )


def check_number(name: str, value: float, low: float, high: float, *, open_ends: bool = False) -> None:
    """Refuse an option outside [low, high], or outside (low, high) with ``open_ends``; NaN included."""
    inside = low < value < high if open_ends else low <= value <= high
    if not inside:
        span = f"above {low:g} and below {high:g}" if open_ends else f"from {low:g} to {high:g}"
        raise UserError(f"{name} is {value}, expected a number {span}")
