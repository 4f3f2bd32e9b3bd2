"""Training steps of other libraries on batches of ours: transformers' fine-tuning, TRL's fine-tuning and GKD.

They get the tokens of a batch padded to its longest sample, and the labels at the same places. Plain transformers sees the
pictures' features; TRL's trainers take a language model, so picture tokens are ordinary tokens to them: the same lengths,
one small projector less.
"""

import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from taid_vlm.data import PairedBatch
from taid_vlm.data.collate import PaddedSide
from taid_vlm.models.student import Student
from taid_vlm.recipe import Recipe
from taid_vlm.training.inputs import model_inputs
from taid_vlm.training.optimizer import make_optimizer
from taid_vlm.training.precision import autocast
from taid_vlm.training.setup import Setup

IGNORED = -100


def labels_of(side: PaddedSide, labels: Tensor) -> Tensor:
    """``[B, L]`` for a model that shifts by itself: each label stands one behind the row that predicts it."""
    found = torch.full_like(side.input_ids, IGNORED)
    found.view(-1)[side.rows + 1] = labels
    return found


class TransformersStep:
    """The loss that transformers computes itself, logits of every position, AdamW."""

    def __init__(self, setup: Setup, recipe: Recipe, device: torch.device) -> None:
        self.setup, self.device, self.limit = setup, device, recipe.training.max_grad_norm
        self.optimizer = make_optimizer(setup.student, recipe)
        setup.student.train()

    def __call__(self, batch: PairedBatch) -> float:
        """Forward, backward, update; returns the loss."""
        student = self.setup.student
        inputs = model_inputs(batch, batch.student, self.setup.processor, self.setup.store).to(self.device)
        with autocast(self.device, self.setup.precision):
            out: Any = student.language_model(
                inputs_embeds=student.embed(inputs),
                attention_mask=inputs.attention_mask,
                labels=labels_of(batch.student, batch.labels).to(self.device),
                use_cache=False,
            )
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in student.parameters() if p.requires_grad], self.limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(out.loss.detach())


def run_trl(
    kind: str, setup: Setup, recipe: Recipe, device: torch.device, batches: list[PairedBatch]
) -> list[dict[str, float]]:
    """Train with ``SFTTrainer`` (kind ``sft``) or ``GKDTrainer`` without sampling (``gkd``); seconds and tokens of each step.

    Recomputation of activations, which is on by default in TRL, is off: the others do not recompute either.
    """
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    rows = [_row(batch) for batch in batches]
    given: list[dict[str, float]] = []

    def collate(items: list[dict[str, Any]]) -> dict[str, Tensor]:
        (item,) = items
        found = {name: torch.tensor(value) for name, value in item.items()}
        given.append({"answers": int((found["labels"] != IGNORED).sum()), "tokens": int(found["attention_mask"].sum())})
        return found

    ends: list[float] = []

    class Times(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if device.type == "cuda":
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {
            "output_dir": folder,
            "max_steps": len(rows),
            "per_device_train_batch_size": 1,  # an item is a whole batch
            "learning_rate": recipe.training.lr,
            "max_grad_norm": recipe.training.max_grad_norm,
            "bf16": setup.precision == "bf16",
            "use_cpu": device.type == "cpu",
            "gradient_checkpointing": False,
            "dataset_kwargs": {"skip_prepare_dataset": True},
            "remove_unused_columns": False,
            "report_to": [],
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
        }
        common: dict[str, Any] = {
            "model": setup.student.language_model,
            "train_dataset": Dataset.from_list(rows),
            "data_collator": collate,
            "processing_class": setup.processor.tokenizer,
            "callbacks": [Times()],
        }
        make: Callable[[], Any]
        if kind == "gkd":
            from trl.experimental.gkd import GKDConfig, GKDTrainer

            assert setup.teacher is not None
            assert isinstance(setup.teacher.model, Student)
            teacher = setup.teacher.model.language_model
            make = lambda: GKDTrainer(teacher_model=teacher, args=GKDConfig(lmbda=0.0, **options), **common)  # noqa: E731
        else:
            make = lambda: SFTTrainer(args=SFTConfig(**options), **common)  # noqa: E731
        make().train()
    return [{"seconds": after - before, **tokens} for before, after, tokens in zip(ends, ends[1:], given, strict=False)]


def _row(batch: PairedBatch) -> dict[str, Any]:
    side = batch.student
    return {
        "input_ids": side.input_ids.tolist(),
        "attention_mask": side.attention_mask.tolist(),
        "labels": labels_of(side, batch.labels).tolist(),
    }
