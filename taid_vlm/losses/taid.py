"""TAID: Temporally Adaptive Interpolated Distillation (arXiv 2501.16937).

The student is taught not by the teacher but by a target that starts near it and moves to the teacher:

    p_t = softmax((1 - t) * stopgrad(z_student) + t * z_teacher),    loss = KL(p_t || q)

``t`` rises from t_start to t_end during training (``schedule.TAIDClock``). The mixture is one of logits, i.e.
the normalised geometric mixture q^(1-t) p^t, not of probabilities. The gradient with respect to the student's
logits is q - p_t: for small t that is t times the gradient of reverse KL, at t = 1 it is that of forward KL.
"""

from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.losses.divergences import (
    at_least_fp32,
    centred,
    check_same_shape,
    expectation,
    kl_to_target,
    softmax_from,
)


def taid_target_logits(student_logits_NV: Tensor, teacher_logits_NV: Tensor, t: float) -> Tensor:
    """Logits of the TAID target p_t (arXiv 2501.16937, the definition of the interpolated distribution).

    Args:
        student_logits_NV, teacher_logits_NV: [N, V] logits over the same vocabulary, any floating dtype.
        t: position in [0, 1]; 0 is the student, 1 the teacher.

    Returns:
        [N, V] in fp32 (fp64 if an input is), without a gradient. At t = 0 and t = 1 these are the bits of one
        model: 0 * (-inf) of the other never enters.

    Raises:
        UserError: the shapes differ or t lies outside [0, 1].
    """
    check_same_shape(student_logits_NV, teacher_logits_NV)
    check_t(t)
    # The upcast comes first: mixing in bf16 moves top-1 probabilities by percents.
    return mix(at_least_fp32(student_logits_NV.detach()), at_least_fp32(teacher_logits_NV.detach()), t)


def taid(student_logits_NV: Tensor, teacher_logits_NV: Tensor, t: float) -> Tensor:
    """TAID loss KL(p_t || q) of each row (arXiv 2501.16937, the TAID objective).

    Args:
        student_logits_NV: [N, V] logits of the student; receives the gradient q - p_t, exactly 0 at t = 0.
        teacher_logits_NV: [N, V] logits of the teacher; receives none.
        t: position in [0, 1].

    Returns:
        [N] values in nats: 0 at t = 0, ``forward_kl`` at t = 1, non-decreasing in t.

    Raises:
        UserError: the shapes differ or t lies outside [0, 1].
    """
    student_NV, target_NV = _student_and_target(student_logits_NV, teacher_logits_NV, t)
    return kl_to_target(student_NV, target_NV)


def taid_cross_entropy(student_logits_NV: Tensor, teacher_logits_NV: Tensor, t: float) -> Tensor:
    """-sum_v p_t log q of each row: ``taid`` plus the entropy of p_t, with the same gradient.

    This is the value that the authors' code returns and feeds to its schedule. Args, returns and raises
    as ``taid``.
    """
    student_NV, target_NV = _student_and_target(student_logits_NV, teacher_logits_NV, t)
    target_p_NV = softmax_from(target_NV, target_NV.logsumexp(dim=-1, keepdim=True))
    return student_NV.logsumexp(dim=-1) - expectation(target_p_NV, student_NV)


def mix(student_NV: Tensor, teacher_NV: Tensor, t: float) -> Tensor:
    """(1 - t) * student + t * teacher, where an end point is that model itself, bit for bit."""
    if t == 0:
        return student_NV
    if t == 1:
        return teacher_NV
    return (1 - t) * student_NV + t * teacher_NV


def check_t(t: float) -> None:
    """Refuse a position outside [0, 1], NaN included."""
    if not 0 <= t <= 1:
        raise UserError(f"t is {t}, expected a number from 0 (the student) to 1 (the teacher)")


def _student_and_target(student_logits_NV: Tensor, teacher_logits_NV: Tensor, t: float) -> tuple[Tensor, Tensor]:
    check_same_shape(student_logits_NV, teacher_logits_NV)
    check_t(t)
    student_NV = centred(at_least_fp32(student_logits_NV))
    teacher_NV = centred(at_least_fp32(teacher_logits_NV.detach()))
    # Without this detach the target would run away with the student, and the gradient would be another one.
    return student_NV, mix(student_NV.detach(), teacher_NV, t)
