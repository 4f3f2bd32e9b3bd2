"""The training loop, read from top to bottom."""

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, ProjectConfiguration, set_seed

from taid_vlm.common.errors import UserError
from taid_vlm.common.stopping import StoppedError
from taid_vlm.common.telling import for_terminal
from taid_vlm.data import Join, PairedBatch, StepOrder, make_loader
from taid_vlm.recipe import Recipe
from taid_vlm.training.best import Best
from taid_vlm.training.checkpoint import save_checkpoint
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.evaluating import Evaluate, Evaluations
from taid_vlm.training.features import FeatureStore
from taid_vlm.training.finishing import finish
from taid_vlm.training.lost_processes import lost_processes
from taid_vlm.training.run_folder import held
from taid_vlm.training.run_state import begin
from taid_vlm.training.setup import Setup, prepare
from taid_vlm.training.signals import StopRequest
from taid_vlm.training.trackers import tracked, usable_trackers
from taid_vlm.training.update import Update
from taid_vlm.training.validation import validate
from taid_vlm.training.zero import hidden_from_accelerate


def train(
    recipe: Recipe,
    run_dir: str | Path,
    *,
    store: FeatureStore | None = None,
    evaluate: Evaluate | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Path:
    """Train the student of ``recipe``; started again after an interruption it goes on to the same result.

    Args:
        run_dir: folder of the run: resolved recipe, logs, checkpoints, and at the end ``student``.
        store: features of a frozen encoder from an earlier run of the same process, used and added to.
        evaluate: measures the student every ``evaluation.every`` steps; without it nobody does.
        origin: of the recipe, which the run writes down for people.

    Returns:
        The folder of the saved student.

    Raises:
        UserError: the recipe cannot work, the folder holds another run, or no space is left.
        StoppedError: a signal asked the run to stop; a checkpoint was written.
    """
    run_dir = Path(run_dir)
    if recipe.training.keep_best == "evaluation" and evaluate is None:
        raise UserError(
            "training.keep_best: evaluation needs somebody who evaluates: install the package taid_vlm_eval, or choose a held-out "
            "figure such as cross_entropy"
        )
    accelerator = _accelerator(recipe, run_dir)  # its trackers before the models: a missing one is told at once
    distribution = Distribution(accelerator)
    with ExitStack() as until_the_end:
        # One process after the other: the first writes what the others compare with.
        with lost_processes(distribution), accelerator.main_process_first():
            precision = until_the_end.enter_context(held(run_dir, recipe, accelerator, origin))
        if (run_dir / "student" / "student.json").is_file():
            accelerator.print(f"{run_dir} is finished: its student is in {run_dir / 'student'}")
            return run_dir / "student"
        set_seed(recipe.seed)
        with tracked(accelerator, recipe, run_dir), lost_processes(distribution):
            setup = prepare(recipe, accelerator, store, precision, lambda text: accelerator.print(for_terminal(text)))
            run = _Run(recipe, run_dir, distribution, setup, evaluate)
            with run.state.log, StopRequest() as request:
                run.go(request)
            finish(run.state)
        accelerator.end_training()
    return run_dir / "student"


def _accelerator(recipe: Recipe, run_dir: Path) -> Accelerator:
    patience = InitProcessGroupKwargs(timeout=timedelta(minutes=recipe.training.timeout_minutes))
    # Otherwise DDP sorts its buckets anew after the first step, and with them the order in which three and more processes add:
    # a run that goes on would differ in the last bits from one that was never stopped.
    order = DistributedDataParallelKwargs(find_unused_parameters=int(os.environ.get("WORLD_SIZE", "1")) > 2)
    with hidden_from_accelerate():
        return Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="no",  # the recipe decides; accelerate's own settings would wrap the student
            log_with=usable_trackers(recipe, run_dir) or None,
            project_config=ProjectConfiguration(str(run_dir), logging_dir=str(run_dir / "tensorboard")),
            kwargs_handlers=[patience, order],
        )


class _Run:
    """All steps of a run, with validation, evaluation and checkpoints on the way."""

    def __init__(
        self, recipe: Recipe, run_dir: Path, distribution: Distribution, setup: Setup, evaluate: Evaluate | None
    ) -> None:
        self.recipe, self.distribution, self.setup = recipe, distribution, setup
        self.state = begin(recipe, run_dir, distribution, setup)
        self.progress = self.state.progress
        evaluations = None
        if evaluate is not None and recipe.evaluation.every is not None:
            average = self.state.options.average
            evaluations = Evaluations(evaluate, recipe, setup, distribution, average, run_dir / "evaluation")
        self.update, self.best = Update(self.state), Best(self.state, evaluations)
        self.started = self.waited = 0.0  # when the current step began, and for how long it waited for its data

    def go(self, request: StopRequest) -> None:
        """The steps that are left."""
        training, progress = self.recipe.training, self.progress
        on_policy, watch = self.state.on_policy, self.setup.watch
        batches, per_step = iter(self._loader()), training.forwards_per_step(self.distribution.world)
        if on_policy is not None and on_policy.needs_baseline and progress.step == 0:
            on_policy.validated(validate(self.setup, self.state.module, self.distribution))
        self.state.module.train()
        if self.best.evaluation_is_due():  # the run was stopped in the middle of it
            self._end_step(request, best=False)
        while not self.state.finished:
            watch.start()
            self.started = time.perf_counter()
            with watch("data"):
                prepared = [next(batches) for _ in range(per_step)]
            self.waited = time.perf_counter() - self.started
            if on_policy is not None:
                with watch("data"):
                    prepared = on_policy.replaced(prepared, progress.step)
            self._step(prepared)
            every = training.validate_every
            measured = self.state.finished or (every is not None and progress.step % every == 0)
            self._end_step(request, best=measured and self.best.validate())

    def _step(self, batches: list[PairedBatch]) -> None:
        self.update(batches, self.started, self.waited)

    def _end_step(self, request: StopRequest, best: bool) -> None:
        """Evaluation and checkpoint, where they are due; ``best``: whether this student is the best so far.

        Raises:
            StoppedError: a signal asked the run to stop; a checkpoint was written.
        """
        training, progress = self.recipe.training, self.progress
        best = self.best.evaluate(request) or best
        last = self.state.finished
        due = progress.step % training.checkpoint_every == 0 and not last
        # Asked of one process, all stop after the same step.
        asked = bool(self.distribution.sum([float(request.asked is not None)])[0])
        stops = asked and (not last or self.best.evaluation_is_due())
        if self.setup.cache is not None and (due or best or stops or last or self._epoch_ended()):
            self.setup.cache.meet(self.distribution)
        if due or best or stops:
            self._save()
        if stops:
            raise StoppedError(
                f"asked to stop ({request.asked or 'another process was'}): a checkpoint of step {progress.step} of "
                f"{training.steps} was written; the same command goes on from it"
            )

    def _loader(self) -> Any:
        training, data, world = self.recipe.training, self.recipe.data, self.distribution.world
        order = StepOrder(
            len(self.setup.train),
            training.batch_size,
            training.samples_per_forward(world),
            self.recipe.seed,
            self.progress.step,
            training.steps,
            self.distribution.rank,
            world,
            data.batching,
            None if data.batching == "padded" else self.setup.train.length,
        )
        setup = self.setup
        sees = setup.processor if setup.store is None and setup.processor.images is not None else None
        return make_loader(
            setup.train,
            order,
            Join(setup.processor.tokenizer.eos_token_id, setup.packing, sees, setup.teacher_looks),
            data.workers,
            prefetch=data.prefetch,
            pin_memory=self.distribution.device.type == "cuda",
        )

    def _epoch_ended(self) -> bool:
        size, batch = len(self.setup.train), self.recipe.training.batch_size
        return self.progress.step * batch // size != (self.progress.step - 1) * batch // size

    def _save(self) -> None:
        state = self.state
        state.log.sync()
        state.progress.log_bytes = state.log.bytes
        save_checkpoint(
            state.checkpoints, state.trained, state.progress, self.recipe.training.keep_last, self.distribution
        )
