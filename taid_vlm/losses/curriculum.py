"""Curriculum Temperature for Knowledge Distillation (CTKD, arXiv 2211.16231), with a global temperature.

The student minimises a tempered KL while the temperature is trained to maximise it: the gradient to its parameter is
reversed, by a factor lambda that rises from 0 to 1, so that the task starts easy and becomes harder.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.losses.divergences import at_least_fp32, check_number, check_same_shape, expectation
from taid_vlm.losses.rows import Rows, log_softmax_


def tempered_kl(student_logits_NV: Tensor, teacher_logits_NV: Tensor, temperature: Tensor | float) -> Tensor:
    """CTKD's loss (arXiv 2211.16231): T^2 KL(softmax(z_teacher / T) || softmax(z_student / T)) of each row.

    A KL, not a cross-entropy: the teacher's entropy depends on T too, and T is trained.

    Args:
        student_logits_NV: [N, V] logits of the student, which receives the gradient.
        teacher_logits_NV: [N, V] logits of the teacher, which receives none.
        temperature: above 0; a scalar tensor receives its gradient (unreversed: see ``CurriculumTemperature``).

    Returns:
        [N] values in nats.

    Raises:
        UserError: the shapes differ or the temperature is not above 0.
    """
    check_same_shape(student_logits_NV, teacher_logits_NV)
    if not isinstance(temperature, Tensor):
        check_number("temperature of ctkd", temperature, 0, 1e4, open_ends=True)
    log_q = (at_least_fp32(student_logits_NV) / temperature).log_softmax(dim=-1)
    log_p = (at_least_fp32(teacher_logits_NV.detach()) / temperature).log_softmax(dim=-1)
    return temperature**2 * expectation(log_p.exp(), log_p - log_q)


def tempered_kl_closed(rows: Rows) -> Tensor:
    """``tempered_kl``: dD/dz = T (q_T - p_T); with d = z_teacher - z_student,

    dD/dT = 2 T KL + <p_T, z_student> - <q_T, z_student> - Cov_p(z_teacher, d) / T.
    """
    assert rows.temperature is not None
    temperature = rows.temperature.detach().to(rows.q.dtype)
    log_q, q = log_softmax_(torch.div(rows.log_q, temperature, out=rows.new()), rows.new())
    log_p, p = log_softmax_(torch.div(rows.log_p, temperature, out=rows.new()), rows.new())
    kl_n = rows.dot(p, log_p.sub_(log_q))
    # log-probabilities do for logits: a constant of a row is no part of a covariance or of a difference of means.
    student_n = rows.dot(p, rows.log_q) - rows.dot(q, rows.log_q)
    mean_n1 = rows.dot(p, rows.log_p).unsqueeze(-1)
    deviation = torch.sub(rows.log_p, mean_n1, out=log_q)
    covariance_n = rows.dot(torch.mul(p, deviation, out=deviation), rows.log_ratio)
    rows.temperature_slope = 2 * temperature * kl_n + student_n - covariance_n / temperature
    torch.sub(q, p, out=rows.gradient).mul_(temperature)
    return temperature**2 * kl_n


class CurriculumTemperature(nn.Module):
    """The temperature T = low + span * sigmoid(theta), of which theta is trained against the student.

    theta belongs in the optimizer with a group of its own and no weight decay, and in the checkpoint.

    Args:
        low, span: T lies between low and low + span; 1 and 20 in the paper.
        start: first value of theta; 1 in the paper's code, T about 15.6.
    """

    def __init__(self, low: float = 1.0, span: float = 20.0, start: float = 1.0) -> None:
        super().__init__()
        check_number("low of the temperature", low, 0, 1e4, open_ends=True)
        check_number("span of the temperature", span, 0, 1e4, open_ends=True)
        self.low, self.span = low, span
        self.theta = nn.Parameter(torch.tensor(float(start)))

    def forward(self, reversal: float) -> Tensor:
        """T, a scalar, with a backward that multiplies the gradient to theta by ``-reversal``."""
        theta: Tensor = _ReverseGradient.apply(self.theta, reversal)
        return self.low + self.span * theta.sigmoid()


def reversal_at(step: int, ramp_steps: int) -> float:
    """lambda of the gradient reversal: a half cosine from 0 at step 0 to 1 at ``ramp_steps``, then 1.

    The paper ramps over 10 epochs; the unit here is the optimizer step.
    """
    if ramp_steps < 0:
        raise UserError(f"ramp_steps is {ramp_steps}, expected a number of optimizer steps, at least 0")
    if step >= ramp_steps:
        return 1.0
    return 0.5 * (1 - math.cos(math.pi * step / ramp_steps))


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, theta: Tensor, reversal: float) -> Tensor:
        ctx.reversal = reversal
        return theta.view_as(theta)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.reversal * gradient, None
