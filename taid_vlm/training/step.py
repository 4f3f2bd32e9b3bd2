"""The module that is trained: student and loss in one forward, so that a sharded head is gathered there."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from taid_vlm.data import PairedBatch
from taid_vlm.losses import CurriculumTemperature, LossOutput, LossSpec, TopK, distillation_loss, reversal_at
from taid_vlm.models.casts import FrozenCast
from taid_vlm.models.logit_scaling import LogitScaling
from taid_vlm.models.student import ModelInputs, Student
from taid_vlm.recipe.loss_config import LossConfig
from taid_vlm.training.inputs import model_inputs
from taid_vlm.training.precision import autocast
from taid_vlm.training.setup import Setup
from taid_vlm.training.timing import Stopwatch


@dataclass(frozen=True)
class TeacherRows:
    """The teacher at the answer rows of a batch."""

    hidden: Tensor  # [R, D]
    head: Tensor  # [U, D]
    bias: Tensor | None  # [U]
    scaling: LogitScaling


class DistillationStep(nn.Module):
    """Student hidden states at the answer rows, then the fused loss.

    Args:
        vocabulary: ids that both models share; None without a teacher.
        config: memory for logits, rows of the masses, and the start of the temperature.
        watch: is told when the student's part ends and the loss begins.
    """

    def __init__(
        self,
        student: Student,
        spec: LossSpec,
        vocabulary: int | None,
        config: LossConfig,
        watch: Stopwatch | None = None,
    ) -> None:
        super().__init__()
        self.student, self.spec, self.vocabulary = student, spec, vocabulary
        self.watch = watch or Stopwatch()
        self.chunk_bytes = None if config.chunk_mb is None else config.chunk_mb * 2**20
        self.mass_rows = config.mass_rows
        self.frozen_head = FrozenCast()
        # Beside the student, not in it: a method's state is no part of the model that is saved.
        self.temperature = CurriculumTemperature(start=config.temperature.start) if spec.trains_temperature else None

    def forward(
        self,
        inputs: ModelInputs,
        labels: Tensor,
        t: float,
        teacher: TeacherRows | TopK | None = None,
        reversal: float = 1.0,
        student_written: Tensor | None = None,
    ) -> LossOutput:
        """Loss summed over the batch's rows; see :func:`distillation_loss`. ``reversal`` is CTKD's lambda."""
        head, scaling = self.student.head, self.student.logit_scaling
        given: dict[str, Any] = {}
        if isinstance(teacher, TopK):
            given = {"teacher_topk": teacher, "vocabulary": self.vocabulary}
        elif teacher is not None:
            given = {
                "teacher_hidden_ND": teacher.hidden,
                "teacher_head_UD": teacher.head,
                "teacher_bias": teacher.bias,
                "teacher_scale": teacher.scaling.scale,
                "teacher_softcap": teacher.scaling.softcap,
                "vocabulary": self.vocabulary,
            }
        with self.watch("student_forward"):
            hidden = self.student.hidden(inputs)
        with self.watch("loss"):
            return distillation_loss(
                hidden,
                # A gathered shard is another tensor in each step.
                head.weight if self.student.in_shards else self.frozen_head(head.weight),
                labels,
                spec=self.spec,
                t=t,
                student_bias=head.bias,
                student_scale=scaling.scale,
                student_softcap=scaling.softcap,
                student_written_N=student_written,
                temperature=None if self.temperature is None else self.temperature(reversal).reshape(()),
                mass_rows=self.mass_rows,
                chunk_bytes=self.chunk_bytes,
                on_nan="return",  # the loop skips the step and counts it
                **given,
            )


def loss_of(
    setup: Setup, module: nn.Module, batch: PairedBatch, device: torch.device, t: float, reversal: float = 1.0
) -> LossOutput:
    """Loss of a batch, summed over its rows, in the precision of the run."""
    with setup.watch("data"):
        inputs = model_inputs(batch, batch.student, setup.processor, setup.store).to(device)
    with setup.watch("teacher"):
        teacher = teacher_rows(setup, batch, device)
    with autocast(device, setup.precision):
        own = None if batch.student_written is None else batch.student_written.to(device)
        output: LossOutput = module(inputs, batch.labels.to(device), t, teacher, reversal, own)
    return output


def teacher_rows(setup: Setup, batch: PairedBatch, device: torch.device) -> TeacherRows | TopK | None:
    """What is known of the teacher at the answer rows of a batch; None without a teacher."""
    if setup.served is not None:
        return setup.served.rows(batch, device)
    hidden = setup.teacher_hidden(batch, device)
    if setup.teacher is None or hidden is None:
        return None
    if isinstance(hidden, TopK):  # what a cache has of it
        return hidden
    with autocast(device, setup.precision):
        weight = setup.teacher_head(setup.teacher.head_weight)
    return TeacherRows(hidden, weight, setup.teacher.head_bias, setup.teacher.model.logit_scaling)


def figures_of(output: LossOutput) -> dict[str, float]:
    """The loss and its figures, summed over rows, as numbers; a GPU is waited for once, not once per figure."""
    values = {"loss": output.loss.detach(), **output.sums}
    return dict(zip(values, torch.stack([value.double() for value in values.values()]).tolist(), strict=True))


def reversal_of(config: LossConfig, step: int, steps: int) -> float:
    """CTKD's lambda at a step. Its paper ramps over 10 of 240 epochs, so a 24th of a run is the usual share."""
    ramp = config.temperature.ramp_steps
    return reversal_at(step, -(-steps // 24) if ramp is None else ramp)
