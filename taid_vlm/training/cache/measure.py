"""What each way of keeping a teacher costs and what it loses, on a sample of rows.

Shapes: R rows, V* tokens that both models share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.data import PairedBatch, PreparedRecords
from taid_vlm.losses import CurriculumTemperature, LossSpec, TopK, distillation_loss
from taid_vlm.models.processor import Processor
from taid_vlm.models.student import Student
from taid_vlm.models.teacher import Teacher
from taid_vlm.training.cache.fill import states
from taid_vlm.training.cache.forms import Form, HiddenStates, MostLikely, head_of
from taid_vlm.training.cache.store import rows_of_samples
from taid_vlm.training.features import FeatureStore
from taid_vlm.training.inputs import model_inputs
from taid_vlm.training.precision import autocast

SAMPLES, ROWS, CHUNK = 32, 512, 64
INFINITE = 1e20
CHOICES: tuple[Form, ...] = (
    HiddenStates("float32"),
    HiddenStates("bfloat16"),
    HiddenStates("float16"),
    *(MostLikely(k, tail, "float16") for k in (8, 32, 128) for tail in ("uniform", "none")),
)


@dataclass(frozen=True)
class Loss:
    """What a run learns by: its student, its objective and the tokens that both models share."""

    student: Student
    processor: Processor
    store: FeatureStore | None
    spec: LossSpec
    vocabulary: int


@dataclass(frozen=True)
class Measured:
    """One form.

    Attributes:
        kl: mean KL(dense || stored) in nats over rows; infinite where a token that the teacher could say is ruled out, None
            where the form cannot hold this teacher.
        loss: largest difference of a sample's mean loss at t = 1; None where the objective cannot have this form.
        why: what keeps the form from holding the teacher.
    """

    name: str
    row_bytes: int
    kl: float | None
    loss: float | None
    why: str = ""


@torch.no_grad()
def measured(
    forms: Sequence[Form],
    loss: Loss,
    teacher: Teacher,
    prepared: PreparedRecords,
    store: FeatureStore | None,
    precision: str,
) -> list[Measured]:
    """Each form beside the teacher itself, on samples that are spread over the records."""
    count = min(SAMPLES, len(prepared))
    order = [round(i * (len(prepared) - 1) / max(1, count - 1)) for i in range(count)]
    decode = loss.store is None or (teacher.sees and store is None)
    spread = PreparedRecords(prepared.records, prepared.pairer, prepared.skip_bad, decode_pictures=decode)
    ((batch, hidden),) = states([list(dict.fromkeys(order))], teacher, spread, store, precision)
    if hidden is None:
        return []
    inputs = model_inputs(batch, batch.student, loss.processor, loss.store).to(hidden.device)
    was_training = loss.student.training
    loss.student.eval()
    with autocast(hidden.device, precision):
        seen = loss.student.hidden(inputs)
        dense = hidden.float()
        truth = _losses(loss, seen, batch, teacher, dense)
        found = [_measured(form, loss, seen, batch, teacher, dense, truth) for form in forms]
    loss.student.train(was_training)
    return found


def table(rows: Sequence[Measured]) -> str:
    """For people."""
    lines = [f"{'':46}{'bytes per token':>16}{'KL to the teacher':>20}{'loss at t = 1':>16}"]
    for row in rows:
        if row.kl is None:
            lines.append(f"{row.name:46}{row.row_bytes:>16,}  does not fit: {row.why}")
            continue
        kl = "infinite" if row.kl > INFINITE else f"{row.kl:.2e}"
        differs = "not defined" if row.loss is None else f"{row.loss:.2e}"
        lines.append(f"{row.name:46}{row.row_bytes:>16,}{kl:>20}{differs:>16}")
    return "\n".join([*lines, "(mean KL(teacher || stored) in nats; largest difference of a sample's mean loss)"])


def _measured(
    form: Form, loss: Loss, seen: Tensor, batch: PairedBatch, teacher: Teacher, dense: Tensor, truth: Tensor | None
) -> Measured:
    name = f"{form.name}, {form.tail}" if isinstance(form, MostLikely) else form.name
    size = form.row_bytes(dense.shape[1])
    if isinstance(form, MostLikely) and form.k > teacher.head_weight.shape[0]:
        return Measured(name, size, None, None, f"the vocabulary has {teacher.head_weight.shape[0]:,} tokens")
    try:
        parts = form.encode(dense, teacher)
    except UserError as error:
        return Measured(name, size, None, None, str(error).partition(":")[0])
    stored = _moved(form.decode(parts), dense.device)
    kl = torch.cat([_kl(loss, teacher, dense, stored, rows) for rows in _chunks(min(len(dense), ROWS))])
    losses = _losses(loss, seen, batch, teacher, stored)
    differs = None if losses is None or truth is None else float((losses - truth).abs().max())
    return Measured(name, size, float(kl.mean()), differs)


def _kl(loss: Loss, teacher: Teacher, dense: Tensor, stored: Tensor | TopK, rows: slice) -> Tensor:
    """``[r]`` KL(dense || stored) over the shared tokens; in fp64, for it may be smaller than the rounding of fp32."""
    p = head_of(dense, teacher).logits(rows)[:, : loss.vocabulary].double().log_softmax(-1)
    if isinstance(stored, TopK):
        logits = stored.over(loss.vocabulary).logits(rows)
    else:
        logits = head_of(stored, teacher).logits(rows)[:, : loss.vocabulary]
    return (p.exp() * (p - logits.double().log_softmax(-1))).sum(-1)


def _losses(loss: Loss, seen: Tensor, batch: PairedBatch, teacher: Teacher, stored: Tensor | TopK) -> Tensor | None:
    """Mean loss of each sample at t = 1; None where the objective cannot have such a teacher."""
    assert batch.teacher is not None
    student, found, start = loss.student, [], 0
    temperature = CurriculumTemperature()(0.0).detach() if loss.spec.trains_temperature else None
    for count in rows_of_samples(batch.teacher, len(batch.ids)):
        rows = slice(start, start + count)
        start += count
        try:
            output = distillation_loss(
                seen[rows],
                student.head.weight,
                batch.labels.to(seen.device)[rows],
                spec=loss.spec,
                student_bias=student.head.bias,
                student_scale=student.logit_scaling.scale,
                student_softcap=student.logit_scaling.softcap,
                temperature=temperature,
                vocabulary=loss.vocabulary,
                **_teacher_arguments(teacher, stored, rows),
            )
        except UserError:
            return None
        found.append(output.loss / max(1, count))
    return torch.stack(found)


def _teacher_arguments(teacher: Teacher, stored: Tensor | TopK, rows: slice) -> dict[str, Any]:
    if isinstance(stored, TopK):
        return {"teacher_topk": TopK(stored.ids[rows], stored.log_probs[rows], stored.tail)}
    head = head_of(stored[rows], teacher)
    return {
        "teacher_hidden_ND": head.hidden,
        "teacher_head_UD": head.weight,
        "teacher_bias": head.bias,
        "teacher_scale": head.scale,
        "teacher_softcap": head.softcap,
    }


def _moved(stored: Tensor | TopK, device: torch.device) -> Tensor | TopK:
    return stored.to(device)


def _chunks(rows: int) -> list[slice]:
    return [slice(start, min(start + CHUNK, rows)) for start in range(0, rows, CHUNK)]
