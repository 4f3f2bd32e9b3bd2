"""Value, figures and gradient of a few rows of logits, the gradient written over the student's logits.

Closed forms do it where all logits are finite. Rows with an impossible token (-inf) or a broken one (NaN), the losses of
``reference`` and those without a closed form go through the plain functions and autograd instead: slower, and the same numbers.
"""

from dataclasses import replace

import torch
from torch import Tensor

from taid_vlm.losses.columns import Columns, Products
from taid_vlm.losses.inputs import LossInputs
from taid_vlm.losses.plain import RowLogits, row_values, weighted
from taid_vlm.losses.rows import Rows, Scratch, inner, largest, softmax_into
from taid_vlm.losses.topk import TopKLogits


def sum_names(inputs: LossInputs) -> list[str]:
    """Names of the figures, in the order of ``Tile.sums``."""
    names = ["cross_entropy", "student_entropy"]
    if inputs.teacher is not None:
        names += ["kl_target", "ce_target", "kl_teacher", "teacher_entropy", "agreement"]
        names += ["kd"] if inputs.spec.kd_weight else []
    return names


class Tile:
    """Works on at most ``rows`` rows at a time, always with the same buffers."""

    def __init__(self, inputs: LossInputs, rows: int, dtype: torch.dtype, wants_gradient: bool) -> None:
        self.inputs, self.spec, self.dtype, self.wants_gradient = inputs, inputs.spec, dtype, wants_gradient
        device, shared = inputs.student.hidden.device, inputs.vocabulary
        self.scratch = Scratch(rows, shared, dtype, device)
        self.heads = inputs.student.columns(0, shared), inputs.student.columns(shared, inputs.student.vocabulary)
        self.temperature_slope = torch.zeros((), dtype=dtype, device=device)

    def sums(self, products: Products) -> Tensor:
        """[k] sums over the rows of ``products``, whose student part becomes the gradient of the weighted loss."""
        self.scratch.rewind()
        n = len(products.shared)
        shared = Columns(products.shared, self.heads[0], self.dtype, self._buffers(n))
        rest = None if products.rest is None else Columns(products.rest, self.heads[1], self.dtype)
        teacher = None
        if isinstance(self.inputs.teacher, TopKLogits):
            teacher = self.inputs.teacher.write(self.scratch.take(n), products.rows)
        elif products.teacher is not None and self.inputs.teacher is not None:
            teacher = Columns(products.teacher, self.inputs.teacher, self.dtype, self._buffers(n)).logits
        sums, spec = None, self.spec
        if not spec.kd_weight or (spec.semantics == "paper" and spec.method.closed is not None):
            sums = self._closed(shared, rest, teacher, products.rows)
        return self._autograd(shared, rest, teacher, products.rows) if sums is None else sums

    def _closed(self, shared: Columns, rest: Columns | None, teacher: Tensor | None, which: slice) -> Tensor | None:
        """By closed forms; None, and the logits as they were, if one of them is not finite."""
        student, n = shared.logits, len(shared.logits)
        labels_n, columns = self.inputs.labels[which], student.shape[-1]
        q = self.scratch.take(n)
        top_n1 = student.amax(-1, keepdim=True)
        if teacher is not None:
            teacher_top_n1, place_n1 = largest(teacher)
            # Before the shift by lse, whose rounding can make two logits equal.
            agreement = (student.gather(-1, place_n1) == top_n1).sum().to(self.dtype)
        lse_n1 = softmax_into(student, q, top_n1)
        log_q = student.sub_(lse_n1)
        gradient = log_q if shared.product.dtype == self.dtype else self.scratch.take(n)
        rows = Rows(log_q, q, log_q, q, gradient, self.scratch, labels_n.where(labels_n < columns, -1))
        entropy = telling = -inner(q, log_q)
        if teacher is not None:
            p = self.scratch.take(n)
            teacher_lse_n1 = softmax_into(teacher, p, teacher_top_n1, place_n1)
            rows = rows.with_(unshifted_log_p=teacher.sub_(teacher_lse_n1), p=p)
            telling = inner(p, rows.log_ratio)
        # 0 * -inf is NaN: whichever logit is not finite, neither is this figure.
        if not telling.isfinite():
            student.add_(lse_n1)
            if teacher is not None:
                teacher.add_(teacher_lse_n1)
            return None
        own = _OwnLabels(rows, rest, lse_n1, labels_n)
        sums = [own.cross_entropy, entropy]
        if teacher is not None:
            sums += self._distil(rows, telling, entropy, agreement, which)
        if self.wants_gradient:
            self._store(own, rows, shared, rest)
        return torch.stack(sums)

    def _distil(
        self, rows: Rows, kl_teacher: Tensor, student_entropy: Tensor, agreement: Tensor, which: slice
    ) -> list[Tensor]:
        """Figures that need the teacher, with the gradient of the divergence left in ``rows.gradient``."""
        teacher_entropy = -inner(rows.p, rows.log_p)
        t = self.inputs.t
        if t == 0:
            target, kl_target, target_entropy = rows, torch.zeros_like(kl_teacher), student_entropy
        elif t == 1:
            target, kl_target, target_entropy = rows, kl_teacher, teacher_entropy
        else:
            target, target_entropy = rows.towards(t)
            kl_target = target.forward_kl.sum()
        figures = [kl_target, kl_target + target_entropy, kl_teacher, teacher_entropy, agreement]
        if not self.spec.kd_weight:
            return figures
        if t == 0:  # every divergence is least where both are equal, and rounding must not move the student
            rows.gradient.zero_()
            return [*figures, torch.zeros_like(kl_teacher)]
        if self.inputs.student_written is not None:
            target.student_written = self.inputs.student_written[which]
        target.temperature = self.inputs.temperature
        closed = self.spec.method.closed
        assert closed is not None
        kd = closed(target, **self.spec.options).sum()
        if target.temperature_slope is not None:
            self.temperature_slope += self.spec.kd_weight * target.temperature_slope.sum()
        return [*figures, kd]

    def _store(self, own: "_OwnLabels", rows: Rows, shared: Columns, rest: Columns | None) -> None:
        gradient, kd_weight, ce_weight = rows.gradient, self.spec.kd_weight, self.spec.ce_weight
        if not kd_weight:
            gradient.zero_()
        elif kd_weight != 1:
            gradient.mul_(kd_weight)
        if ce_weight:
            own.add_gradient(gradient, ce_weight)
            if rest is not None:
                rest.store(rest.logits)
        shared.store(gradient)

    def _autograd(self, shared: Columns, rest: Columns | None, teacher: Tensor | None, which: slice) -> Tensor:
        """By the plain functions."""
        parts = [shared] if rest is None else [shared, rest]
        leaf = torch.cat([part.logits for part in parts], dim=-1).requires_grad_()
        inputs, leaves = self.inputs, [leaf]
        if inputs.temperature is not None:
            leaves.append(inputs.temperature.detach().clone().requires_grad_())
            inputs = replace(inputs, temperature=leaves[1])
        with torch.enable_grad():
            values = row_values(inputs, RowLogits(leaf, teacher, which))
            sums = {name: value.sum() for name, value in values.items()}
            loss = weighted(sums, self.spec)
        if self.wants_gradient:
            found = torch.autograd.grad(loss, leaves, allow_unused=True)
            assert found[0] is not None
            for part, gradient in zip(parts, found[0].split([p.logits.shape[-1] for p in parts], -1), strict=True):
                part.store(gradient)
            if len(found) > 1 and found[1] is not None:
                self.temperature_slope += found[1].to(self.dtype).reshape(())
        return torch.stack([sums[name].detach().to(self.dtype) for name in sum_names(inputs)])

    def _buffers(self, n: int) -> tuple[Tensor, Tensor]:
        return self.scratch.take(n), self.scratch.take(n)


class _OwnLabels:
    """Cross-entropy of the labels over all columns, the shared ones and the rest."""

    def __init__(self, rows: Rows, rest: Columns | None, lse_n1: Tensor, labels_n: Tensor) -> None:
        self.rows, self.rest = rows, rest
        self.inside_n1 = (rows.labels >= 0).unsqueeze(-1)
        self.place_n1 = rows.labels.clamp(min=0).unsqueeze(-1)
        label_n1 = rows.log_q.gather(-1, self.place_n1)
        self.share_n1: Tensor | None = None
        if rest is not None:
            columns = rows.q.shape[-1]
            self.rest_place_n1 = (labels_n - columns).clamp(min=0).unsqueeze(-1)
            log_share_n1 = lse_n1 - torch.logaddexp(lse_n1, rest.logits.logsumexp(-1, keepdim=True))
            self.share_n1 = log_share_n1.exp()
            rest.logits.sub_(lse_n1).add_(log_share_n1)  # log-probabilities over all columns
            label_n1 = torch.where(self.inside_n1, label_n1 + log_share_n1, rest.logits.gather(-1, self.rest_place_n1))
        self.cross_entropy = -label_n1.sum()

    def add_gradient(self, gradient: Tensor, weight: float) -> None:
        """weight * (softmax - onehot): added to the shared columns' gradient, and put in place of the rest."""
        if self.rest is None or self.share_n1 is None:
            gradient.add_(self.rows.q, alpha=weight)
        else:
            gradient.addcmul_(self.rows.q, self.share_n1, value=weight)
            rest = self.rest.logits.exp_().mul_(weight)
            rest.scatter_add_(-1, self.rest_place_n1, -weight * (~self.inside_n1).to(rest.dtype))
        gradient.scatter_add_(-1, self.place_n1, -weight * self.inside_n1.to(gradient.dtype))
