"""Held-out figures of a student; nothing of the training state is touched."""

import math

import torch
from torch import nn

from taid_vlm.common.errors import UserError
from taid_vlm.data import make_loader
from taid_vlm.losses import means
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.setup import Setup
from taid_vlm.training.step import figures_of, loss_of

BATCH = 16


@torch.no_grad()
def validate(setup: Setup, module: nn.Module, distribution: Distribution) -> dict[str, float]:
    """Cross-entropy, perplexity, entropy, head and tail mass, and with a teacher KL(teacher || student), its entropy and
    top-1 agreement, each a mean over answer tokens. Each process measures its share, and all get the same figures.

    The TAID clock is read by none of them: KL is taken to the teacher itself (t = 1).
    """
    assert setup.validation is not None
    size, rank, world = len(setup.validation), distribution.rank, distribution.world
    batches = [list(range(i, min(i + BATCH, size))) for i in range(0, size, BATCH)]
    # All processes run equally many forwards, or those with sharded weights would wait for ever: a batch too many counts nothing.
    share = [batches[min(i + rank, len(batches) - 1)] for i in range(0, len(batches), world)]
    counts = [i + rank < len(batches) for i in range(0, len(batches), world)]
    totals: dict[str, float] = {}
    rows = 0
    distribution.share_buffers(module)
    was_training = module.training
    module.eval()
    loader = make_loader(setup.validation, share, setup.processor.tokenizer.eos_token_id)
    for batch, counted in zip(loader, counts, strict=True):
        out = loss_of(setup, module, batch, distribution.device, t=1.0)
        rows += out.rows * counted
        for name, value in figures_of(out).items():
            totals[name] = totals.get(name, 0.0) + (value if counted else 0.0)
    module.train(was_training)
    distribution.reshard()
    everywhere = distribution.sum([float(rows), *totals.values()])
    if not everywhere[0]:
        raise UserError("no held-out sample can be used: every picture of data.validation is broken")
    found = means(dict(zip(totals, everywhere[1:], strict=True)), everywhere[0])
    figures = {"cross_entropy": found["cross_entropy"], "perplexity": math.exp(min(50.0, found["cross_entropy"]))}
    if "kl_teacher" in found:
        figures["kl_to_teacher"] = found["kl_teacher"]
    # How peaked the student is: mode averaging shows in the tail, mode collapse in the entropy.
    shapes = ("agreement", "student_entropy", "teacher_entropy", "head_mass", "tail_mass")
    return figures | {name: found[name] for name in shapes if name in found}
