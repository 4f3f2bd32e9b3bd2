"""The training step of the TAID authors' code, re-created from its description, to compare with and for nothing else.

What it does, and this toolkit does not: every sequence is padded to a fixed length; both models give logits ``[B, L, V]``
at every position, padding included; the two are mixed in the logits' own dtype, and softmax and log-softmax of all of them
are taken in fp32; what is not wanted is multiplied by zero at the end. All tokens of a conversation are supervised. The
language model's own loss is computed as well, and has no weight. No cache. arXiv 2501.16937; written anew, no line is theirs.

Pictures are not in that code: here both models get the same features in the same places as ours.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from taid_vlm.data import PairedBatch
from taid_vlm.data.collate import PaddedSide
from taid_vlm.models.student import Student
from taid_vlm.recipe import Recipe
from taid_vlm.training.inputs import model_inputs, teacher_inputs
from taid_vlm.training.optimizer import make_optimizer
from taid_vlm.training.precision import autocast
from taid_vlm.training.setup import Setup

LENGTH = 2048


def taid_over_everything(student_BLV: Tensor, teacher_BLV: Tensor, mask_BL: Tensor, t: float) -> Tensor:
    """Cross-entropy of the interpolated target at all positions, averaged over those in the mask."""
    mixed = (1 - t) * student_BLV.detach() + t * teacher_BLV
    target = F.softmax(mixed, dim=-1, dtype=torch.float32)
    log_probabilities = F.log_softmax(student_BLV, dim=-1, dtype=torch.float32)
    products = (target * log_probabilities).masked_fill(student_BLV.isinf(), 0)
    wanted = mask_BL.flatten()
    return -(products.sum(-1).flatten() * wanted).sum() / wanted.sum()


class OfficialStep:
    """One optimizer step on a batch of ours, with the parameters, rates and precision of the recipe."""

    def __init__(self, setup: Setup, recipe: Recipe, device: torch.device, length: int = LENGTH) -> None:
        assert setup.teacher is not None
        assert isinstance(setup.teacher.model, Student), "the pair is one of ours"
        self.setup, self.teacher, self.device, self.length = setup, setup.teacher, device, length
        self.limit = recipe.training.max_grad_norm
        self.optimizer = make_optimizer(setup.student, recipe)
        self.step = 0
        setup.student.train()

    def __call__(self, batch: PairedBatch) -> float:
        """Forward of both, loss, backward, update; returns the loss."""
        assert batch.teacher is not None
        setup, clock = self.setup, self.setup.clock
        ours = self._padded(batch.student)
        theirs = self._padded(batch.teacher)
        inputs = model_inputs(batch, ours, setup.processor, setup.store).to(self.device)
        read = teacher_inputs(batch, theirs, self.teacher, setup.teacher_store).to(self.device)
        with autocast(self.device, setup.precision):
            with torch.no_grad():
                teacher = _logits(self.teacher.model, read)
            student = _logits(setup.student, inputs)
        ids, mask = inputs.input_ids[:, 1:], inputs.attention_mask[:, 1:].float()
        labels = ids.masked_fill(mask == 0, -100)
        own = F.cross_entropy(student[:, :-1].float().flatten(0, 1), labels.flatten())  # without weight, but kept
        loss = taid_over_everything(student[:, :-1], teacher[:, :-1], mask, clock.t)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in setup.student.parameters() if p.requires_grad], self.limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        del own
        clock.update(float(loss.detach()), self.step)
        self.step += 1
        return float(loss.detach())

    def _padded(self, side: PaddedSide) -> PaddedSide:
        missing = self.length - side.input_ids.shape[1]
        pad = self.setup.processor.tokenizer.eos_token_id
        return replace(
            side,
            input_ids=F.pad(side.input_ids, (0, missing), value=pad),
            attention_mask=F.pad(side.attention_mask, (0, missing)),
        )


def _logits(model: Student, inputs: "object") -> Tensor:
    """``[B, L, V]``."""
    return model.language_model(
        inputs_embeds=model.embed(inputs),  # type: ignore[arg-type]
        attention_mask=inputs.attention_mask,  # type: ignore[attr-defined]
        use_cache=False,
    ).logits
