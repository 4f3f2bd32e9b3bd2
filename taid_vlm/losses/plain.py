"""The objective as the formulas read: all logits at once, gradients by autograd. The truth, and slow."""

from dataclasses import dataclass

import torch
from torch import Tensor

from taid_vlm.losses import reference
from taid_vlm.losses.divergences import at_least_fp32, centred, cross_entropy, expectation, forward_kl
from taid_vlm.losses.figures import sample_places, sampled_mass
from taid_vlm.losses.inputs import LossInputs
from taid_vlm.losses.objective import LossOutput, LossSpec
from taid_vlm.losses.taid import mix, taid_cross_entropy


@dataclass(frozen=True)
class RowLogits:
    """Logits of some rows, and which rows they are."""

    student: Tensor  # [n, V]
    teacher: Tensor | None  # [n, S]
    rows: slice


def plain_loss(inputs: LossInputs) -> LossOutput:
    """Evaluate the objective with a [rows, vocabulary] tensor of logits for each model."""
    student_NV = inputs.student.logits()
    with torch.no_grad():
        teacher_NS = None if inputs.teacher is None else inputs.teacher.logits()
    values = row_values(inputs, RowLogits(student_NV, teacher_NS, slice(None)))
    sums = {name: values_N.sum() for name, values_N in values.items()}
    loss = weighted(sums, inputs.spec)
    if inputs.mass_rows:
        places = list(sample_places(inputs.student.rows, inputs.mass_rows))
        sums |= sampled_mass(student_NV[places, : inputs.vocabulary])
    return LossOutput(loss, inputs.student.rows, {name: value.detach() for name, value in sums.items()})


def row_values(inputs: LossInputs, logits: RowLogits) -> dict[str, Tensor]:
    """[n] values of every figure; those in the loss carry gradients."""
    student_nV, teacher_nS = logits.student, logits.teacher
    shared_nS = student_nV[:, : inputs.vocabulary]
    fixed_nS = shared_nS.detach()
    values = {
        "cross_entropy": cross_entropy(student_nV, inputs.labels[logits.rows]),
        "student_entropy": entropy(fixed_nS),
    }
    if teacher_nS is None:
        return values
    values["kl_target"] = forward_kl(fixed_nS, target_logits(fixed_nS, teacher_nS, inputs.t))
    values["ce_target"] = taid_cross_entropy(fixed_nS, teacher_nS, inputs.t)
    values["kl_teacher"] = forward_kl(fixed_nS, teacher_nS)
    values["teacher_entropy"] = entropy(teacher_nS)
    # The student's choice is every token that shares its largest logit: ties are common below a soft cap.
    at_choice_n = fixed_nS.gather(-1, teacher_nS.argmax(-1, keepdim=True)).squeeze(-1)
    values["agreement"] = (at_choice_n == fixed_nS.amax(-1)).to(student_nV.dtype)
    if inputs.spec.kd_weight:
        values["kd"] = _kd(inputs, shared_nS, teacher_nS, logits.rows)
    return values


def _kd(inputs: LossInputs, student_nS: Tensor, teacher_nS: Tensor, rows: slice) -> Tensor:
    spec, extra = inputs.spec, inputs.method_extra(rows)
    if spec.semantics == "reference":
        assert spec.method.reference is not None
        if spec.name == "taid":
            return reference.taid(student_nS, teacher_nS, inputs.t)
        return spec.method.reference(student_nS, teacher_nS, *extra, **spec.options)
    target_nS = target_logits(student_nS.detach(), teacher_nS, inputs.t)
    return spec.method.plain(student_nS, target_nS, *extra, **spec.options)


def target_logits(student_nS: Tensor, teacher_nS: Tensor, t: float) -> Tensor:
    """Logits of TAID's target; at t = 1 the teacher's own bits."""
    return mix(centred(at_least_fp32(student_nS)), centred(at_least_fp32(teacher_nS)), t) if t != 1 else teacher_nS


def entropy(logits_NV: Tensor) -> Tensor:
    """-sum p log p of each row, [N], in nats."""
    log_p = at_least_fp32(logits_NV).log_softmax(dim=-1)
    return -expectation(log_p.exp(), log_p)


def weighted(sums: dict[str, Tensor], spec: LossSpec) -> Tensor:
    """kd_weight * kd + ce_weight * cross_entropy; a weight of 0 drops even an infinite term."""
    terms = []
    if spec.kd_weight:
        terms.append(spec.kd_weight * sums["kd"])
    if spec.ce_weight:
        terms.append(spec.ce_weight * sums["cross_entropy"])
    return torch.stack(terms).sum()
