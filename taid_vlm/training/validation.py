"""Held-out figures of a student; nothing of the training state is touched."""

import math

import torch
from accelerate import Accelerator

from taid_vlm.common.errors import UserError
from taid_vlm.data import make_loader
from taid_vlm.losses import means
from taid_vlm.training.setup import Setup
from taid_vlm.training.step import DistillationStep, figures_of, loss_of

BATCH = 16


@torch.no_grad()
def validate(setup: Setup, module: DistillationStep, accelerator: Accelerator) -> dict[str, float]:
    """Cross-entropy, perplexity, entropy, head and tail mass, and with a teacher KL(teacher || student), its entropy and
    top-1 agreement, each a mean over answer tokens.

    The TAID clock is read by none of them: KL is taken to the teacher itself (t = 1).
    """
    assert setup.validation is not None
    device = accelerator.device
    size = len(setup.validation)
    order = [list(range(i, min(i + BATCH, size))) for i in range(0, size, BATCH)]
    totals: dict[str, float] = {}
    rows = 0
    was_training = module.training
    module.eval()
    for batch in make_loader(setup.validation, order, setup.processor.tokenizer.eos_token_id):
        out = loss_of(setup, module, batch, device, t=1.0)
        rows += out.rows
        for name, value in figures_of(out).items():
            totals[name] = totals.get(name, 0.0) + value
    module.train(was_training)
    if not rows:
        raise UserError("no held-out sample can be used: every picture of data.validation is broken")
    found = means(totals, rows)
    figures = {"cross_entropy": found["cross_entropy"], "perplexity": math.exp(min(50.0, found["cross_entropy"]))}
    if "kl_teacher" in found:
        figures["kl_to_teacher"] = found["kl_teacher"]
    # How peaked the student is: mode averaging shows in the tail, mode collapse in the entropy.
    shapes = ("agreement", "student_entropy", "teacher_entropy", "head_mass", "tail_mass")
    return figures | {name: found[name] for name in shapes if name in found}
