"""The objective as the formulas read: all logits at once, gradients by autograd. The truth, and slow."""

import torch
from torch import Tensor

from taid_vlm.losses.divergences import cross_entropy, forward_kl
from taid_vlm.losses.inputs import LossInputs
from taid_vlm.losses.objective import LossOutput, LossSpec
from taid_vlm.losses.taid import taid, taid_cross_entropy


def plain_loss(inputs: LossInputs) -> LossOutput:
    """Evaluate the objective with a [rows, vocabulary] tensor of logits for each model."""
    student_NV = inputs.student.logits()
    rows: dict[str, Tensor] = {"cross_entropy": cross_entropy(student_NV, inputs.labels)}
    if inputs.teacher is not None:
        shared_NV = student_NV[:, : inputs.vocabulary]
        with torch.no_grad():
            teacher_NV = inputs.teacher.logits()
        rows["kl_target"] = taid(shared_NV, teacher_NV, inputs.t)
        rows["ce_target"] = taid_cross_entropy(shared_NV.detach(), teacher_NV, inputs.t)
        rows["kl_teacher"] = forward_kl(shared_NV.detach(), teacher_NV)
        rows["agreement"] = (shared_NV.argmax(-1) == teacher_NV.argmax(-1)).to(student_NV.dtype)
    sums = {name: values_N.sum() for name, values_N in rows.items()}
    loss = weighted(sums, inputs.spec)
    return LossOutput(loss, inputs.student.rows, {name: value.detach() for name, value in sums.items()})


def weighted(sums: dict[str, Tensor], spec: LossSpec) -> Tensor:
    """kd_weight * kl_target + ce_weight * cross_entropy; a weight of 0 drops even an infinite term."""
    terms = []
    if spec.kd_weight:
        terms.append(spec.kd_weight * sums["kl_target"])
    if spec.ce_weight:
        terms.append(spec.ce_weight * sums["cross_entropy"])
    return torch.stack(terms).sum()
