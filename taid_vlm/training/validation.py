"""Held-out figures of a student; nothing of the training state is touched."""

import math

import torch
from accelerate import Accelerator

from taid_vlm.common.errors import UserError
from taid_vlm.data import make_loader
from taid_vlm.training.inputs import model_inputs
from taid_vlm.training.setup import Setup
from taid_vlm.training.step import DistillationStep
from taid_vlm.training.teacher_cache import autocast

BATCH = 16


@torch.no_grad()
def validate(setup: Setup, module: DistillationStep, accelerator: Accelerator) -> dict[str, float]:
    """Cross-entropy, perplexity and, with a teacher, KL(teacher || student) and top-1 agreement, each a mean over answer tokens.

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
        inputs = model_inputs(batch, batch.student, setup.processor, setup.store).to(device)
        hidden = setup.teacher_hidden(batch, device)
        teacher = (
            (setup.teacher.head_weight, setup.teacher.head_bias)
            if setup.teacher and hidden is not None
            else (None, None)
        )
        with autocast(device, setup.precision):
            out = module(inputs, batch.labels.to(device), 1.0, hidden, *teacher)
        rows += out.rows
        for name, value in out.sums.items():
            totals[name] = totals.get(name, 0.0) + float(value)
    module.train(was_training)
    if not rows:
        raise UserError("no held-out sample can be used: every picture of data.validation is broken")
    figures = {"cross_entropy": totals["cross_entropy"] / rows}
    figures["perplexity"] = math.exp(min(50.0, figures["cross_entropy"]))
    if "kl_teacher" in totals:
        figures["kl_to_teacher"] = totals["kl_teacher"] / rows
        figures["agreement"] = totals["agreement"] / rows
    return figures
