"""The module that is trained: student and loss in one forward, so that a sharded head is gathered there."""

from torch import Tensor, nn

from taid_vlm.losses import LossOutput, LossSpec, distillation_loss
from taid_vlm.models.student import ModelInputs, Student


class DistillationStep(nn.Module):
    """Student hidden states at the answer rows, then the fused loss.

    Args:
        vocabulary: ids that both models share; None without a teacher.
        chunk_bytes: memory for logits.
    """

    def __init__(self, student: Student, spec: LossSpec, vocabulary: int | None, chunk_bytes: int) -> None:
        super().__init__()
        self.student, self.spec, self.vocabulary, self.chunk_bytes = student, spec, vocabulary, chunk_bytes

    def forward(
        self,
        inputs: ModelInputs,
        labels: Tensor,
        t: float,
        teacher_hidden: Tensor | None = None,
        teacher_head: Tensor | None = None,
        teacher_bias: Tensor | None = None,
    ) -> LossOutput:
        """Loss summed over the batch's rows; see :func:`distillation_loss`."""
        head = self.student.head
        return distillation_loss(
            self.student.hidden(inputs),
            head.weight,
            labels,
            spec=self.spec,
            t=t,
            teacher_hidden_ND=teacher_hidden,
            teacher_head_UD=teacher_head,
            teacher_bias=teacher_bias,
            student_bias=head.bias,
            vocabulary=self.vocabulary if teacher_hidden is not None else None,
            chunk_bytes=self.chunk_bytes,
        )
