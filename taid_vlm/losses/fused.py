"""The objective from hidden states and heads, without a [rows, vocabulary] tensor that outlives a chunk.

The gradient of every objective here with respect to the student's logits z is known in closed form,

    kd_weight * (softmax(z[:V*]) - p_t) + ce_weight * (softmax(z) - onehot(label)),

so the forward takes a few rows at a time, makes their logits, forms that gradient, multiplies it into the
gradients of hidden states and head, and forgets the logits. What is kept for the backward has the size of
hidden states and head; the backward only scales it. The idea is that of Liger Kernel's fused linear
cross-entropy (arXiv 2410.10989).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.losses.divergences import at_least_fp32, centred, expectation, softmax_from
from taid_vlm.losses.inputs import Head, LossInputs, check_inputs
from taid_vlm.losses.objective import LossOutput, LossSpec
from taid_vlm.losses.plain import plain_loss, weighted
from taid_vlm.losses.taid import mix

IMPLEMENTATIONS = ("fused", "plain")


def distillation_loss(
    student_hidden_NH: Tensor,
    student_head_VH: Tensor,
    labels_N: Tensor,
    *,
    spec: LossSpec,
    t: float = 1.0,
    teacher_hidden_ND: Tensor | None = None,
    teacher_head_UD: Tensor | None = None,
    vocabulary: int | None = None,
    student_bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    chunk_bytes: int = 64 * 2**20,
    implementation: str = "fused",
) -> LossOutput:
    """The objective ``spec`` at some supervised rows, summed, with gradients for the student's side.

    Args:
        student_hidden_NH: [N, H] hidden states that predict the labels; the shift by one is already made.
        student_head_VH: [V, H] weight of the student's lm_head. student_bias: [V] or None.
        labels_N: [N] token ids in [0, V). N = 0 gives a loss of 0 with a gradient of 0.
        spec: what to minimise. t: position of the TAID target in [0, 1]; other objectives ignore it.
        teacher_hidden_ND, teacher_head_UD, teacher_bias: [N, D], [U, D], [U] of the teacher; its width
            may differ. Optional for ``sft``, where they add the teacher's metrics.
        vocabulary: V*, the number of leading token ids the models share. Teacher terms see only those
            columns, cut before the softmax; the cross-entropy of labels sees all V. Needed only where U
            differs from V.
        chunk_bytes: budget of one chunk; it has chunk_bytes / (16 V) rows. That counts the logits of both models
            and their gradient; with the temporaries of TAID the measured peak is about 2.5 times as much. With
            few rows per chunk the head's gradient is read and written often: raise it on a large GPU.
        implementation: "fused", or "plain" for all logits at once with autograd.

    Returns:
        ``LossOutput``; divide its loss by the rows of the whole optimizer step. Logits are computed in the
        tensors' dtype (autocast's, when on) and everything after them in fp32. The loss may be non-finite if
        the logits are: that is for the training loop to see and skip.

    Raises:
        UserError: shapes, row counts or dtypes do not fit, a label or t or vocabulary is out of range, or the
            objective needs a teacher that was not given.
    """
    if implementation not in IMPLEMENTATIONS:
        raise UserError(
            f"unknown loss implementation {implementation!r}: {did_you_mean(implementation, IMPLEMENTATIONS)}"
        )
    if chunk_bytes < 1:
        raise UserError(f"chunk_bytes is {chunk_bytes}, expected a positive number of bytes")
    if (teacher_hidden_ND is None) != (teacher_head_UD is None):
        raise UserError("got one of teacher_hidden_ND and teacher_head_UD, expected both or neither: pass both")
    teacher = None
    if teacher_hidden_ND is not None and teacher_head_UD is not None:
        teacher = Head(teacher_hidden_ND, teacher_head_UD, teacher_bias)
    student = Head(student_hidden_NH, student_head_VH, student_bias)
    inputs = check_inputs(student, teacher, labels_N, vocabulary, spec, t)
    if implementation == "plain":
        return plain_loss(inputs)
    chunk_rows = max(1, chunk_bytes // (16 * student.vocabulary))
    return fused_loss(inputs, chunk_rows)


def fused_loss(inputs: LossInputs, chunk_rows: int) -> LossOutput:
    """Evaluate the objective ``chunk_rows`` rows at a time."""
    student = inputs.student
    tensors = (student.hidden, student.weight, student.bias)
    # Asked here because inside the Function grad mode is always off.
    wants = tuple(torch.is_grad_enabled() and x is not None and x.requires_grad for x in tensors)
    loss, sums = _FusedLoss.apply(*tensors, inputs, chunk_rows, wants)
    return LossOutput(loss, student.rows, dict(zip(_sum_names(inputs), sums.unbind(), strict=True)))


def chunk_terms(
    student_nV: Tensor, teacher_nS: Tensor | None, labels_n: Tensor, inputs: LossInputs, wants_gradient: bool
) -> tuple[list[Tensor], Tensor | None]:
    """Sums of one chunk in the order of ``_sum_names``, and the gradient [n, V] of its loss if wanted."""
    spec = inputs.spec
    student_nV = centred(student_nV)
    lse_n1 = student_nV.logsumexp(dim=-1, keepdim=True)
    sums = [(lse_n1 - student_nV.gather(-1, labels_n.unsqueeze(-1))).sum()]
    gradient_nV = torch.zeros_like(student_nV) if wants_gradient else None
    if gradient_nV is not None and spec.ce_weight:
        gradient_nV += spec.ce_weight * softmax_from(student_nV, lse_n1)
        gradient_nV[torch.arange(len(labels_n), device=labels_n.device), labels_n] -= spec.ce_weight
    if teacher_nS is None:
        return sums, gradient_nV

    shared_nS = student_nV
    if inputs.vocabulary < student_nV.shape[-1]:
        shared_nS = centred(student_nV[:, : inputs.vocabulary])
        lse_n1 = shared_nS.logsumexp(dim=-1, keepdim=True)
    teacher_nS = centred(teacher_nS)
    teacher_p_nS, teacher_lse_n1 = _softmax_and_lse(teacher_nS)
    kl_teacher = (lse_n1 - teacher_lse_n1).sum() + expectation(teacher_p_nS, teacher_nS - shared_nS).sum()
    target_nS, target_p_nS, kl_target = teacher_nS, teacher_p_nS, kl_teacher
    if inputs.t != 1:
        target_nS = mix(shared_nS, teacher_nS, inputs.t)
        target_p_nS, target_lse_n1 = _softmax_and_lse(target_nS)
        kl_target = (lse_n1 - target_lse_n1).sum() + expectation(target_p_nS, target_nS - shared_nS).sum()
    ce_target = lse_n1.sum() - expectation(target_p_nS, shared_nS).sum()
    agreement = (shared_nS.argmax(-1) == teacher_nS.argmax(-1)).sum()
    sums += [kl_target, ce_target, kl_teacher, agreement.to(lse_n1.dtype)]
    if gradient_nV is not None and spec.kd_weight:
        # The same expression as for the target: at t = 0 both are the same bits and the difference is 0.
        student_p_nS = softmax_from(shared_nS, lse_n1)
        gradient_nV[:, : inputs.vocabulary] += spec.kd_weight * (student_p_nS - target_p_nS)
    return sums, gradient_nV


def _softmax_and_lse(logits_nS: Tensor) -> tuple[Tensor, Tensor]:
    lse_n1 = logits_nS.logsumexp(dim=-1, keepdim=True)
    return softmax_from(logits_nS, lse_n1), lse_n1


def _sum_names(inputs: LossInputs) -> list[str]:
    names = ["cross_entropy", "kl_target", "ce_target", "kl_teacher", "agreement"]
    return names[:1] if inputs.teacher is None else names


class _Gradients:
    """Gradients of hidden states, head and bias, as far as wanted; the last two accumulate in fp32."""

    def __init__(self, student: Head, compute: Head, wants: tuple[bool, bool, bool]) -> None:
        self.compute = compute
        accumulator = torch.promote_types(compute.hidden.dtype, torch.float32)
        self.hidden = torch.zeros_like(student.hidden) if wants[0] else None
        self.weight = torch.zeros_like(student.weight, dtype=accumulator) if wants[1] else None
        self.bias = None
        if wants[2] and student.bias is not None:
            self.bias = torch.zeros_like(student.bias, dtype=accumulator)

    def add(self, rows: slice, gradient_nV: Tensor) -> None:
        """Take in the gradient with respect to the logits of ``rows``."""
        if self.bias is not None:
            self.bias += gradient_nV.sum(dim=0)
        gradient_nV = gradient_nV.to(self.compute.hidden.dtype)
        if self.hidden is not None:
            self.hidden[rows] = (gradient_nV @ self.compute.weight).to(self.hidden.dtype)
        if self.weight is not None:
            hidden_nH = self.compute.hidden[rows]
            if self.weight.dtype == hidden_nH.dtype:
                self.weight.addmm_(gradient_nV.T, hidden_nH)
            else:  # the product is made in the compute dtype, but summed in fp32
                self.weight += gradient_nV.T @ hidden_nH


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        inputs: LossInputs,
        chunk_rows: int,
        wants: tuple[bool, bool, bool],
    ) -> tuple[Tensor, Tensor]:
        original = Head(hidden_NH, weight_VH, bias_V)
        student = original.in_compute_dtype()
        teacher = None if inputs.teacher is None else inputs.teacher.in_compute_dtype()
        gradients = _Gradients(original, student, wants)
        names = _sum_names(inputs)
        dtype = torch.promote_types(student.hidden.dtype, torch.float32)
        totals = torch.zeros(len(names), dtype=dtype, device=hidden_NH.device)
        for start in range(0, original.rows, chunk_rows):
            rows = slice(start, start + chunk_rows)
            teacher_nS = None if teacher is None else teacher.logits(rows)
            sums, gradient_nV = chunk_terms(student.logits(rows), teacher_nS, inputs.labels[rows], inputs, any(wants))
            totals += torch.stack(sums)
            if gradient_nV is not None:
                gradients.add(rows, gradient_nV)
        ctx.save_for_backward(gradients.hidden, gradients.weight, gradients.bias)
        ctx.dtypes = (hidden_NH.dtype, weight_VH.dtype, None if bias_V is None else bias_V.dtype)
        ctx.mark_non_differentiable(totals)
        return weighted(dict(zip(names, totals.unbind(), strict=True)), inputs.spec), totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        # Scaled in fp32: a factor like 1/rows rounded to bf16 would be off by up to 0.4 % in every entry.
        scaled = (
            None if saved is None else (at_least_fp32(saved) * loss_gradient).to(dtype)
            for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return (*scaled, None, None, None)
