"""What a student knows of held-out samples, at the tokens of their answers, beside its teacher.

An answer counts as right when every token of it, the one that ends the turn included, is the student's likeliest one. That is when greedy decoding
writes this very answer: as long as each token is right, the next is predicted from the same text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taid_vlm.data import PairedBatch, Pairer, PreparedRecords, Record, make_loader
from taid_vlm.models.processor import Processor
from taid_vlm.models.student import Student
from taid_vlm.models.teacher import Teacher
from taid_vlm.training.features import FeatureStore
from taid_vlm.training.inputs import model_inputs, teacher_inputs
from taid_vlm.training.precision import autocast

BATCH = 50
ROWS_AT_ONCE = 256  # of logits over the vocabulary, in fp32


@dataclass(frozen=True)
class Held:
    """Held-out samples and the teacher's hidden states at their answer rows.

    Attributes:
        tokens: answer tokens of each sample, [S].
        states, head: of the teacher; hidden states [N, H] in the order of the samples, and the weight [V, H].
    """

    samples: PreparedRecords
    store: FeatureStore | None
    tokens: Tensor
    states: Tensor
    head: Tensor


@dataclass(frozen=True)
class Measured:
    """Sums over the answer tokens of each sample, [S].

    Attributes:
        tokens: how many. right: whether all are the student's likeliest. agreed: at how many student and teacher have the same likeliest.
        cross_entropy, kl, reverse_kl: nats; of the labels, KL(teacher || student) and KL(student || teacher).
        entropy: of the student, nats.
    """

    tokens: Tensor
    right: Tensor
    agreed: Tensor
    cross_entropy: Tensor
    kl: Tensor
    reverse_kl: Tensor
    entropy: Tensor

    def figures(self) -> dict[str, float]:
        """Shares of samples and means per token."""
        tokens = float(self.tokens.sum())
        named = {
            "agreement": self.agreed,
            "cross_entropy": self.cross_entropy,
            "kl": self.kl,
            "reverse_kl": self.reverse_kl,
            "entropy": self.entropy,
        }
        return {"exact": float(self.right.double().mean())} | {n: float(v.sum()) / tokens for n, v in named.items()}


@torch.no_grad()
def hold(
    records: Sequence[Record],
    pairer: Pairer,
    teacher: Teacher,
    store: FeatureStore | None,
    precision: str,
    states_NH: Tensor | None = None,
) -> Held:
    """Ask the teacher once about samples that many students will be asked.

    Args:
        pairer: renders for the teacher on both sides; students of the study speak as it does.
        states_NH: what the teacher said before.
    """
    samples = PreparedRecords(records, pairer, skip_bad=False, decode_pictures=False)
    tokens = torch.tensor([len(pairer.pair(record).labels) for record in records])
    if states_NH is not None:
        return Held(samples, store, tokens, states_NH, teacher.head_weight.float())
    found = []
    for batch in _batches(samples, teacher.processor.tokenizer.eos_token_id):
        assert batch.teacher is not None
        with autocast(torch.device("cpu"), precision):
            found.append(teacher.hidden(teacher_inputs(batch, batch.teacher, teacher, store)).float())
    return Held(samples, store, tokens, torch.cat(found), teacher.head_weight.float())


@torch.no_grad()
def measure(student: Student, processor: Processor, held: Held, precision: str) -> Measured:
    """Measure a student, on the CPU; the heads' products and all that follows are in fp32."""
    student.eval()
    per_row: list[Tensor] = []
    start = 0
    for batch in _batches(held.samples, processor.tokenizer.eos_token_id):
        with autocast(torch.device("cpu"), precision):
            hidden_NH = student.hidden(model_inputs(batch, batch.student, processor, held.store)).float()
        teacher_NH = held.states[start : start + len(hidden_NH)]
        start += len(hidden_NH)
        heads = (student.head.weight.float(), held.head)
        per_row += _figures(hidden_NH, teacher_NH, heads, batch.labels)
    return _by_sample(torch.cat(per_row), held.tokens)


@torch.no_grad()
def measure_teacher(held: Held, pad_id: int) -> Measured:
    """The same of the teacher itself, which agrees with itself everywhere."""
    labels_N = torch.cat([batch.labels for batch in _batches(held.samples, pad_id)])
    rows = list(_figures(held.states, held.states, (held.head, held.head), labels_N))
    return _by_sample(torch.cat(rows), held.tokens)


def _figures(hidden_NH: Tensor, teacher_NH: Tensor, heads: tuple[Tensor, Tensor], labels_N: Tensor) -> Iterator[Tensor]:
    """Rows of right, agreed, cross-entropy, KL, reverse KL and entropy, [N, 6]."""
    for start in range(0, len(hidden_NH), ROWS_AT_ONCE):
        which = slice(start, start + ROWS_AT_ONCE)
        log_q, log_p = (
            (states[which] @ head.t()).log_softmax(dim=-1)
            for states, head in zip((hidden_NH, teacher_NH), heads, strict=True)
        )
        q, p, best = log_q.exp(), log_p.exp(), log_q.argmax(dim=-1)
        labels_n = labels_N[which]
        yield torch.stack(
            [
                best.eq(labels_n).double(),
                best.eq(log_p.argmax(dim=-1)).double(),
                -log_q.gather(1, labels_n.unsqueeze(1)).squeeze(1).double(),
                (p * (log_p - log_q)).sum(dim=-1).double(),
                (q * (log_q - log_p)).sum(dim=-1).double(),
                -(q * log_q).sum(dim=-1).double(),
            ],
            dim=1,
        )


def _by_sample(rows_N6: Tensor, tokens: Tensor) -> Measured:
    sample_N = torch.repeat_interleave(torch.arange(len(tokens)), tokens)
    sums_S6 = torch.zeros(len(tokens), rows_N6.shape[1], dtype=rows_N6.dtype).index_add_(0, sample_N, rows_N6)
    right, *sums = sums_S6.unbind(dim=1)
    return Measured(tokens, right == tokens, *sums)


def _batches(samples: PreparedRecords, pad_id: int) -> Iterator[PairedBatch]:
    order = [list(range(i, min(i + BATCH, len(samples)))) for i in range(0, len(samples), BATCH)]
    yield from make_loader(samples, order, pad_id)
