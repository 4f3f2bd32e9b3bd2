"""Who is measured: our two forms, and the peers as their packages ship them, all on the same tensors.

Each ``make_*`` imports its package and returns a function from a ``Case`` to a scalar loss, the mean over rows, from
which the benchmark calls backward. All peers are set to pure forward KL, the nearest of what they have to TAID, whose
gradient costs the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from taid_vlm.losses import CurriculumTemperature, LossSpec, distillation_loss, forward_kl, taid

TORCHTUNE_CHUNKS = 8  # its default
T = 0.5


@dataclass
class Case:
    """Hidden states and heads of both models at the supervised rows; the student's require gradients."""

    hidden: Tensor  # [N, H]
    head: Tensor  # [V, H]
    teacher_hidden: Tensor  # [N, D]
    teacher_head: Tensor  # [V, D]
    labels: Tensor  # [N]

    @property
    def gradient_bytes(self) -> int:
        """Memory that the result takes: the gradients of hidden states and head."""
        return self.hidden.nbytes + self.head.nbytes

    def forget(self) -> None:
        """Drop the gradients of the last call."""
        self.hidden.grad = self.head.grad = None


Loss = Callable[[Case], Tensor]


def make_case(rows: int, vocabulary: int, width: int, teacher_width: int, dtype: torch.dtype, device: str) -> Case:
    """A student that half agrees with its teacher, so that neither distribution is trivial."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    hidden, head = normal(rows, width), normal(vocabulary, width) * 2.4 / width**0.5
    teacher_hidden, teacher_head = normal(rows, teacher_width), normal(vocabulary, teacher_width)
    teacher_head *= 2.4 / teacher_width**0.5
    shared = min(width, teacher_width)
    teacher_hidden[:, :shared] = 0.8 * hidden[:, :shared] + 0.6 * teacher_hidden[:, :shared]
    teacher_head[:, :shared] = 0.8 * head[:, :shared] + 0.6 * teacher_head[:, :shared]
    labels = torch.randint(0, vocabulary, (rows,), generator=generator)
    ours = [tensor.to(device, dtype).requires_grad_() for tensor in (hidden, head)]
    return Case(*ours, teacher_hidden.to(device, dtype), teacher_head.to(device, dtype), labels.to(device))


def make_fused(name: str) -> Loss:
    """Our fused loss ``name``, with all the figures that it reports."""
    spec = LossSpec.of(name)

    def run(case: Case) -> Tensor:
        temperature = CurriculumTemperature().to(case.hidden.device)(1.0) if spec.trains_temperature else None
        output = distillation_loss(
            case.hidden,
            case.head,
            case.labels,
            spec=spec,
            t=T,
            teacher_hidden_ND=case.teacher_hidden,
            teacher_head_UD=case.teacher_head,
            temperature=temperature,
        )
        return output.loss / output.rows

    return run


def make_plain(name: str) -> Loss:
    """The plain function of ``name`` alone, on the logits of both models: no figures beside the loss."""

    def run(case: Case) -> Tensor:
        with torch.no_grad():
            teacher = case.teacher_hidden @ case.teacher_head.t()
        student = case.hidden @ case.head.t()
        return (taid(student, teacher, T) if name == "taid" else forward_kl(student, teacher)).mean()

    return run


def make_liger(compiled: bool) -> Loss:
    """Liger-Kernel's chunked loss with hard labels weighted 0; it still computes their cross-entropy."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, compiled=compiled)
    return lambda case: loss(case.hidden, case.head, case.teacher_hidden, case.teacher_head, case.labels)


def make_trl_chunked() -> Loss:
    """TRL's chunked divergence, which makes all logits again in the backward; its DistillationTrainer uses it."""
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def run(case: Case) -> Tensor:
        student, teacher = (case.hidden, case.head, None), (case.teacher_hidden, case.teacher_head, None)
        return ChunkedDivergenceFunction.apply(*student, *teacher, 0.0)[0].mean()

    return run


def make_trl_full() -> Loss:
    """TRL's GKD loss on the full logits of both models."""
    from trl.experimental.gkd import GKDTrainer

    def run(case: Case) -> Tensor:
        with torch.no_grad():
            teacher = case.teacher_hidden @ case.teacher_head.t()
        return GKDTrainer.generalized_jsd_loss(case.hidden @ case.head.t(), teacher, beta=0.0)

    return run


def make_torchtune() -> Loss:
    """torchtune's chunked KL: the head is applied chunk by chunk, and every chunk is kept for the backward."""
    from torchtune.modules.loss import ForwardKLWithChunkedOutputLoss

    loss = ForwardKLWithChunkedOutputLoss(num_output_chunks=TORCHTUNE_CHUNKS)

    def run(case: Case) -> Tensor:
        with torch.no_grad():
            teacher = [h[None] @ case.teacher_head.t() for h in case.teacher_hidden.chunk(TORCHTUNE_CHUNKS)]
        student = [h[None] @ case.head.t() for h in case.hidden.chunk(TORCHTUNE_CHUNKS)]
        return loss(student, teacher, case.labels[None])

    return run


OURS: dict[str, Callable[[], Loss]] = {
    "taid, fused": lambda: make_fused("taid"),
    "taid, plain": lambda: make_plain("taid"),
    "kl, fused": lambda: make_fused("kl"),
    "kl, plain": lambda: make_plain("kl"),
}
PEERS: dict[str, Callable[[], Loss]] = {
    "Liger chunked": lambda: make_liger(compiled=False),
    "Liger chunked, compiled": lambda: make_liger(compiled=True),
    "TRL chunked": make_trl_chunked,
    "TRL full logits": make_trl_full,
    "torchtune chunked": make_torchtune,
}


def products(case: Case, chunk_rows: int) -> Any:
    """The four matrix products that no form can avoid, alone, in the row chunks and the memory of the fused form."""
    hidden, head = case.hidden.detach(), case.head.detach()
    rows, vocabulary = len(hidden), len(head)
    accumulates = torch.promote_types(hidden.dtype, torch.float32)
    student, teacher = (hidden.new_empty(min(rows, chunk_rows), vocabulary) for _ in range(2))
    hidden_gradient = torch.empty_like(hidden)
    head_gradient = torch.zeros_like(head, dtype=accumulates)

    def run() -> None:
        for start in range(0, rows, chunk_rows):
            some = slice(start, min(start + chunk_rows, rows))
            n = some.stop - some.start
            torch.mm(hidden[some], head.t(), out=student[:n])
            torch.mm(case.teacher_hidden[some], case.teacher_head.t(), out=teacher[:n])
            torch.mm(student[:n], head, out=hidden_gradient[some])
            if accumulates == hidden.dtype:
                head_gradient.addmm_(student[:n].t(), hidden[some])
            else:
                head_gradient.add_(student[:n].t() @ hidden[some])

    return run
