"""The training loop, read from top to bottom."""

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from taid_vlm.common.errors import UserError
from taid_vlm.common.versions import versions
from taid_vlm.data import Join, PairedBatch, StepOrder, make_loader
from taid_vlm.losses import means
from taid_vlm.models.saved import save_student
from taid_vlm.models.trained_parts import told_parts
from taid_vlm.recipe import Recipe
from taid_vlm.training.card import model_card
from taid_vlm.training.checkpoint import Progress, complete_checkpoints, load_checkpoint, save_checkpoint
from taid_vlm.training.features import FeatureStore
from taid_vlm.training.log import RunLog
from taid_vlm.training.optimizer import make_optimizer, make_schedule
from taid_vlm.training.run_folder import claim
from taid_vlm.training.setup import Setup, prepare
from taid_vlm.training.step import DistillationStep, figures_of, loss_of, reversal_of
from taid_vlm.training.validation import validate


def train(recipe: Recipe, run_dir: str | Path, *, store: FeatureStore | None = None) -> Path:
    """Train the student of ``recipe``; started again after an interruption it goes on to the same result.

    Args:
        run_dir: folder of the run: resolved recipe, logs, checkpoints, and at the end ``student``.
        store: features of a frozen encoder from an earlier run of the same process, used and added to.

    Returns:
        The folder of the saved student.

    Raises:
        UserError: the recipe cannot work, the folder holds another run, or no space is left.
    """
    run_dir = Path(run_dir)
    # Trackers are made before the models, so that a missing one is told at once.
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(), log_with=_trackers(recipe) or None, project_dir=str(run_dir)
    )
    # One process after the other: the first writes what the others compare with.
    with accelerator.main_process_first():
        precision = claim(run_dir, recipe, accelerator)
    if (run_dir / "student" / "student.json").is_file():
        accelerator.print(f"{run_dir} is finished: its student is in {run_dir / 'student'}")
        return run_dir / "student"
    set_seed(recipe.seed)
    accelerator.init_trackers("tensorboard")
    setup = prepare(recipe, accelerator, store, precision, accelerator.print)
    run = _Run(recipe, run_dir, accelerator, setup)
    with run.log:
        run.go()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        measured = [f"held-out {name}: {value:.4f}" for name, value in run.last_figures.items()]
        card = model_card(recipe, run_dir.name, measured, versions())
        save_student(
            setup.student, setup.processor, recipe.student, run_dir / "student", weights=recipe.save, card=card
        )
    accelerator.end_training()
    return run_dir / "student"


class _Run:
    """What one step after the other works on."""

    def __init__(self, recipe: Recipe, run_dir: Path, accelerator: Accelerator, setup: Setup) -> None:
        self.recipe, self.run_dir, self.accelerator, self.setup = recipe, run_dir, accelerator, setup
        module = DistillationStep(setup.student, setup.spec, setup.vocabulary, recipe.loss).to(accelerator.device)
        self.temperature = module.temperature
        self.optimizer = make_optimizer(setup.student, recipe, self.temperature)
        self.schedule = make_schedule(self.optimizer, recipe)
        self.progress = Progress()
        checkpoints = complete_checkpoints(run_dir / "checkpoints")
        if checkpoints:
            self.progress = load_checkpoint(
                checkpoints[-1], setup.student, self.optimizer, self.schedule, setup.clock, self.temperature
            )
        self.log = RunLog(
            run_dir, accelerator, recipe.training.steps, recipe.training.log_every, self.progress.log_bytes
        )
        self.module: Any = accelerator.prepare_model(module)
        self.optimizer = accelerator.prepare_optimizer(self.optimizer)
        self.last_figures: dict[str, float] = {}
        self.waited = 0.0  # seconds that the current step waited for its data
        if not checkpoints:
            for line in told_parts(setup.student):
                self.log.say(line)
        else:
            self.log.say(f"going on from step {self.progress.step}")

    def go(self) -> None:
        """All steps that are left, with validation and checkpoints on the way."""
        training = self.recipe.training
        batches = iter(self._loader())
        self.module.train()
        while self.progress.step < training.steps:
            start = time.perf_counter()
            prepared = [next(batches) for _ in range(self.accumulation)]
            self.waited = time.perf_counter() - start
            self._step(prepared)
            step = self.progress.step
            last = step == training.steps
            if self.setup.validation is not None and (
                last or (training.validate_every and step % training.validate_every == 0)
            ):
                figures = validate(self.setup, self.accelerator.unwrap_model(self.module), self.accelerator)
                self.last_figures = figures
                self.log.validation(step, figures)
            if (step % training.checkpoint_every == 0 and not last) and self.accelerator.is_main_process:
                self._save()

    def _loader(self) -> Any:
        training, data, world = self.recipe.training, self.recipe.data, self.accelerator.num_processes
        micro = training.samples_per_forward(world)
        order = StepOrder(
            len(self.setup.train),
            training.batch_size,
            micro,
            self.recipe.seed,
            self.progress.step,
            training.steps,
            self.accelerator.process_index,
            world,
            data.batching,
            None if data.batching == "padded" else self.setup.train.length,
        )
        self.accumulation = training.batch_size // (micro * world)
        setup = self.setup
        sees = setup.processor if setup.store is None and setup.processor.images is not None else None
        return make_loader(
            setup.train,
            order,
            Join(setup.processor.tokenizer.eos_token_id, setup.packing, sees, setup.teacher_looks),
            data.workers,
            prefetch=data.prefetch,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def _step(self, batches: list[PairedBatch]) -> None:
        start = time.perf_counter()
        (rows,) = self._sum([float(sum(len(batch.labels) for batch in batches))])
        totals: dict[str, float] = {}
        for index, batch in enumerate(batches):
            # Gradients are exchanged between processes once, with the last micro-batch.
            waits = index + 1 < len(batches) and self.accelerator.num_processes > 1
            with self.accelerator.no_sync(self.module) if waits else contextlib.nullcontext():
                for name, value in self._forward_backward(batch, max(rows, 1.0)).items():
                    totals[name] = totals.get(name, 0.0) + value
        everywhere = self._sum(list(totals.values()))
        self._update(means(dict(zip(totals, everywhere, strict=True)), rows), rows, batches, start)

    def _forward_backward(self, batch: PairedBatch, rows: float) -> dict[str, float]:
        reversal = reversal_of(self.recipe.loss, self.progress.step, self.recipe.training.steps)
        out = loss_of(self.setup, self.module, batch, self.accelerator.device, self.setup.clock.t, reversal)
        # Data-parallel training averages over processes; the loss is a sum over the rows of all of them.
        self.accelerator.backward(out.loss * (self.accelerator.num_processes / rows))
        return figures_of(out)

    def _update(self, figures: dict[str, float], rows: float, batches: list[PairedBatch], start: float) -> None:
        progress, clock = self.progress, self.setup.clock
        norm = float(self.accelerator.clip_grad_norm_(self._learning(), self.recipe.training.max_grad_norm))
        t = clock.t
        sound = rows > 0 and math.isfinite(figures["loss"]) and math.isfinite(norm)
        if sound:
            self.optimizer.step()
        self.optimizer.zero_grad()
        rates = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
        self.schedule.step()
        clock.update(figures.get(self.recipe.loss.clock_signal, figures["loss"]) if sound else None, progress.step)
        progress.step += 1
        progress.dropped += int(self._sum([float(sum(len(batch.dropped) for batch in batches))])[0])
        progress.skipped_in_a_row = 0 if sound else progress.skipped_in_a_row + 1
        if progress.skipped_in_a_row >= self.recipe.training.max_skipped:
            ids = ", ".join(name for batch in batches for name in batch.ids[:8])
            raise UserError(
                f"the loss was not finite in {progress.skipped_in_a_row} steps in a row; last samples: {ids}; lower training.lr"
            )
        seconds = self.waited + time.perf_counter() - start
        tokens = sum(int(batch.student.attention_mask.sum()) for batch in batches) * self.accelerator.num_processes
        figures = {**figures, "grad_norm": norm, "rows": rows}
        if self.recipe.loss.name == "taid":
            figures |= {"t": t, "momentum": clock.momentum}
        if self.temperature is not None:
            figures["temperature"] = float(self.temperature(0.0).detach())
        figures |= {f"lr_{name}": rate for name, rate in rates.items()}
        figures |= {"dropped": float(progress.dropped), "skipped": float(clock.skipped)}
        self.log.step(
            progress.step,
            figures,
            {"seconds": seconds, "data_seconds": self.waited, "tokens_per_second": tokens / seconds},
        )

    def _save(self) -> None:
        self.progress.log_bytes = self.log.bytes
        folder = self.run_dir / "checkpoints"
        save_checkpoint(
            folder,
            self.setup.student,
            self.optimizer,
            self.schedule,
            self.setup.clock,
            self.progress,
            self.recipe.training.keep_last,
            self.temperature,
        )

    def _sum(self, values: list[float]) -> list[float]:
        """Each value summed over all processes."""
        if self.accelerator.num_processes == 1:
            return values
        local = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        return self.accelerator.reduce(local, "sum").tolist()

    def _learning(self) -> list[torch.nn.Parameter]:
        return [p for p in self.setup.student.parameters() if p.requires_grad]


def _trackers(recipe: Recipe) -> list[str]:
    """Names of trackers, each of which can be used: accelerate itself would go on without one that is not installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    from taid_vlm.common.errors import did_you_mean

    known = [str(name) for name in LOGGER_TYPE_TO_CLASS]
    usable = [str(name) for name in get_available_trackers()]
    for name in recipe.training.trackers:
        if name not in known:
            raise UserError(f"unknown tracker {name!r}: {did_you_mean(name, known)}")
        if name not in usable:
            raise UserError(
                f"tracker {name!r} is not installed: pip install {name.replace('_', '-')}, or choose another"
            )
    return list(recipe.training.trackers)
