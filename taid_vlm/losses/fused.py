"""The objective from hidden states and heads, without a [rows, vocabulary] tensor that outlives a chunk.

The gradient of every objective with respect to the student's logits is known in closed form (``rows``). So the forward
takes a chunk of rows at a time, makes their logits, turns them in place into that gradient, multiplies it into the
gradients of hidden states and head, and uses the same memory for the next chunk. What is kept for the backward has the
size of hidden states and head; the backward only scales it. The idea is that of Liger Kernel's fused linear
cross-entropy (arXiv 2410.10989).

A chunk is as large as the matrix products like it, and the byte budget allows. Inside a chunk the arithmetic between
the products goes through tiles of a few rows that stay in the processor's cache: it is a dozen passes over memory
that is near, where a chunk at a time they would be a dozen passes over memory that is far.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.losses.chunks import Evaluation, evaluate, usual_bytes
from taid_vlm.losses.inputs import Head, LossInputs, check_inputs
from taid_vlm.losses.objective import LossOutput, LossSpec
from taid_vlm.losses.plain import plain_loss
from taid_vlm.losses.topk import TopK

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
    teacher_topk: TopK | None = None,
    vocabulary: int | None = None,
    student_bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    student_scale: float = 1.0,
    teacher_scale: float = 1.0,
    student_softcap: float | None = None,
    teacher_softcap: float | None = None,
    student_written_N: Tensor | None = None,
    temperature: Tensor | None = None,
    mass_rows: int = 0,
    chunk_bytes: int | None = None,
    implementation: str = "fused",
    on_nan: str = "raise",
) -> LossOutput:
    """The objective ``spec`` at some supervised rows, summed, with gradients for the student's side.

    Args:
        student_hidden_NH: [N, H] hidden states that predict the labels; the shift by one is already made.
        student_head_VH: [V, H] weight of the student's lm_head. student_bias: [V] or None.
        labels_N: [N] token ids in [0, V). N = 0 gives a loss of 0 with a gradient of 0.
        spec: what to minimise. t: position of the TAID target in [0, 1]; other objectives ignore it.
        teacher_hidden_ND, teacher_head_UD, teacher_bias: [N, D], [U, D], [U] of the teacher; its width
            may differ. Optional for ``sft``, where they add the teacher's metrics.
        teacher_topk: in their place, a teacher known only by the K most likely tokens of each row.
        vocabulary: V*, the number of leading token ids the models share. Teacher terms see only those
            columns, cut before the softmax; the cross-entropy of labels sees all V. Needed only where U
            differs from V.
        student_scale, teacher_scale: logits are multiplied by it, the bias included. student_softcap, teacher_softcap:
            c of z = c tanh(u / c), applied after the scale (Gemma); None for none.
        student_written_N: [N] booleans for ``distillm2``: rows of answers that the student wrote.
        temperature: scalar tensor for ``ctkd``; its gradient comes back unreversed (``CurriculumTemperature`` reverses).
        mass_rows: take head and tail mass of the student at about so many rows; 0 for none.
        chunk_bytes: budget of all temporary memory of the size of logits; when left out 1 GiB, on a CPU no more than 512
            rows take. Three quarters are for the logits of a chunk, which become their gradient in place, the rest for
            tiles of it. A chunk has at least one row, whatever the budget. With few rows per chunk the head's
            gradient is read and written often.
        implementation: "fused", or "plain" for all logits at once with autograd.
        on_nan: "raise" looks at the loss (on a GPU that waits for the result) and says where NaN came from; "return"
            gives it back, for a training loop to skip. An infinite loss is a value: the student rules out a token.

    Returns:
        ``LossOutput``; divide its loss by the rows of the whole optimizer step. Logits are multiplied in the
        tensors' dtype (autocast's, when on), and everything after them is computed in fp32.

    Raises:
        UserError: shapes, row counts or dtypes do not fit, a label, t, vocabulary or option is out of range, the
            objective needs a teacher or a temperature that was not given, the tail rule of a top-k teacher does not go with
            the objective, or logits are NaN.
    """
    for what, value, known in (
        ("loss implementation", implementation, IMPLEMENTATIONS),
        ("on_nan", on_nan, ("raise", "return")),
    ):
        if value not in known:
            raise UserError(f"unknown {what} {value!r}: {did_you_mean(value, known)}")
    if chunk_bytes is not None and chunk_bytes < 1:
        raise UserError(f"chunk_bytes is {chunk_bytes}, expected a positive number of bytes")
    if (teacher_hidden_ND is None) != (teacher_head_UD is None):
        raise UserError("got one of teacher_hidden_ND and teacher_head_UD, expected both or neither: pass both")
    if teacher_topk is not None and teacher_hidden_ND is not None:
        raise UserError("got teacher_topk and teacher_hidden_ND, expected one teacher: leave one of them out")
    teacher: Head | TopK | None = teacher_topk
    if teacher_hidden_ND is not None and teacher_head_UD is not None:
        teacher = Head(teacher_hidden_ND, teacher_head_UD, teacher_bias, teacher_scale, teacher_softcap)
    student = Head(student_hidden_NH, student_head_VH, student_bias, student_scale, student_softcap)
    inputs = check_inputs(student, teacher, labels_N, vocabulary, spec, t, student_written_N, temperature, mass_rows)
    output = plain_loss(inputs) if implementation == "plain" else fused_loss(inputs, chunk_bytes or usual_bytes(inputs))
    if on_nan == "raise" and bool(output.loss.isnan()):
        raise UserError(_explain_nan(inputs))
    return output


def fused_loss(inputs: LossInputs, chunk_bytes: int) -> LossOutput:
    """Evaluate the objective in chunks of at most ``chunk_bytes``; one call to a compiler."""
    return _untraced()(inputs, chunk_bytes)


@cache
def _untraced() -> Callable[[LossInputs, int], LossOutput]:
    # The loop over chunks reuses memory in a way that tracing would undo. Said at the first call and not by a decorator,
    # for ``disable`` imports the compiler, and that takes longer than the rest of this package.
    return torch.compiler.disable(_in_chunks)  # type: ignore[no-any-return]


def _in_chunks(inputs: LossInputs, chunk_bytes: int) -> LossOutput:
    student = inputs.student
    tensors = (student.hidden, student.weight, student.bias, inputs.temperature)
    # Asked here because inside the Function grad mode is always off.
    wants = tuple(torch.is_grad_enabled() and x is not None and x.requires_grad for x in tensors)
    sums: dict[str, Tensor] = {}
    loss = _FusedLoss.apply(*tensors, inputs, chunk_bytes, wants, sums)
    return LossOutput(loss, student.rows, sums)


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        temperature: Tensor | None,
        inputs: LossInputs,
        chunk_bytes: int,
        wants: tuple[bool, bool, bool, bool],
        sums: dict[str, Tensor],
    ) -> Tensor:
        def run() -> Evaluation:
            with torch.autocast(hidden_NH.device.type, dtype=dtype, enabled=autocast):
                return evaluate(inputs.detached(), chunk_bytes, wants)

        device = hidden_NH.device.type
        autocast, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        done = run()
        sums.update(done.sums)
        # Saved so that a second backward notices tensors that were changed in place.
        ctx.save_for_backward(hidden_NH, weight_VH, bias_V, temperature)
        ctx.run, ctx.gradients = run, done.gradients
        return done.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor) -> tuple[Tensor | None, ...]:
        originals = ctx.saved_tensors
        # The gradients are handed over rather than copied: a head is large. Asked again, they are computed again.
        gradients = ctx.run().gradients if ctx.gradients is None else ctx.gradients
        ctx.gradients = None
        # Scaled in fp32: a factor like 1/rows rounded to bf16 would be off by up to 0.4 % in every entry.
        scaled = (
            None if found is None else found.mul_(loss_gradient).to(original.dtype)
            for found, original in zip(gradients, originals, strict=True)
        )
        return (*scaled, None, None, None, None)


def _explain_nan(inputs: LossInputs) -> str:
    """Which tensor brought NaN in, and what to do."""
    found = []
    tensors = [("student", "hidden states", inputs.student.hidden), ("student", "head", inputs.student.weight)]
    if isinstance(inputs.teacher, Head):
        tensors += [("teacher", "hidden states", inputs.teacher.hidden), ("teacher", "head", inputs.teacher.weight)]
    elif inputs.teacher is not None:
        tensors += [("teacher", "log-probabilities", inputs.teacher.values)]
    for whose, what, tensor in tensors:
        broken = (~tensor.isfinite()).any(-1).nonzero().flatten().tolist()
        if broken:
            found.append(
                f"the {whose}'s {what} {list(tensor.shape)} are not finite in {len(broken)} rows, the first {broken[:3]}"
            )
    cause = "; ".join(found) or (
        f"hidden states {list(inputs.student.hidden.shape)} and heads are finite, so their logits overflow "
        f"{inputs.student.hidden.dtype}, or a bias or a model's rows of logits rule out every token"
    )
    return (
        f"the loss is NaN: {cause}. Lower the learning rate, train in bf16 or fp32 rather than fp16, or pass "
        f"on_nan='return' and skip the step"
    )
