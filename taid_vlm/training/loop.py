"""The training loop, read from top to bottom."""

import math
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
from taid_vlm.common.versions import versions
from taid_vlm.data import REASONS, Join, PairedBatch, StepOrder, dropped_by_reason, make_loader
from taid_vlm.losses import means
from taid_vlm.models.saved import save_student
from taid_vlm.models.student import Student
from taid_vlm.models.trained_parts import told_parts
from taid_vlm.recipe import Recipe
from taid_vlm.recipe.plug_ins import plug_in_versions
from taid_vlm.training.card import model_card
from taid_vlm.training.checkpoint import (
    Progress,
    Trained,
    complete_checkpoints,
    load_checkpoint,
    load_weights,
    remove_leftovers,
    save_checkpoint,
)
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.ema import averaged_student
from taid_vlm.training.evaluating import Evaluate, Evaluations
from taid_vlm.training.features import FeatureStore
from taid_vlm.training.log import RunLog
from taid_vlm.training.lost_processes import lost_processes
from taid_vlm.training.on_policy import OnPolicy
from taid_vlm.training.optimizer import make_optimizer, make_schedule
from taid_vlm.training.options import Options
from taid_vlm.training.peak_memory import peak_memory
from taid_vlm.training.run_folder import held
from taid_vlm.training.setup import Setup, prepare
from taid_vlm.training.signals import StopRequest
from taid_vlm.training.step import DistillationStep, figures_of, loss_of, reversal_of
from taid_vlm.training.trackers import tracked, usable_trackers
from taid_vlm.training.validation import validate
from taid_vlm.training.zero import hidden_from_accelerate
from taid_vlm.training.zero_state import gathered


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
            with run.log, StopRequest() as request:
                run.go(request)
            run.finish()
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
    """What one step after the other works on."""

    def __init__(
        self, recipe: Recipe, run_dir: Path, distribution: Distribution, setup: Setup, evaluate: Evaluate | None
    ) -> None:
        self.recipe, self.run_dir, self.distribution, self.setup = recipe, run_dir, distribution, setup
        self.watch, self.options = setup.watch, Options(recipe, setup.student, distribution.device)
        told = [*told_parts(setup.student), *(f"note: {note}" for note in self.options.prepare_model())]
        module = DistillationStep(setup.student, setup.spec, setup.vocabulary, recipe.loss, setup.watch)
        self.module: Any = distribution.wrap(module, setup.precision)
        self.options.begin()
        self.on_policy = OnPolicy.of(recipe, setup, distribution.device, distribution.rank, distribution.world)
        self.optimizer: Any = make_optimizer(setup.student, recipe, module.temperature)
        self.schedule = make_schedule(self.optimizer, recipe)
        self.module, self.optimizer = distribution.join(self.module, self.optimizer, recipe, setup.precision)
        self.evaluations: Evaluations | None = None
        if evaluate is not None and recipe.evaluation.every is not None:
            average = self.options.average
            self.evaluations = Evaluations(evaluate, recipe, setup, distribution, average, run_dir / "evaluation")
        self.trained = Trained(
            setup.student,
            self.optimizer,
            self.schedule,
            setup.clock,
            module.temperature,
            shared={"options": self.options},
            own={"on_policy": self.on_policy} if self.on_policy is not None else {},
        )
        self.progress = Progress()
        self.checkpoints = run_dir / "checkpoints"
        found = complete_checkpoints(self.checkpoints)
        distribution.agree([path.name for path in found[-1:]], "checkpoints")
        if distribution.main:
            remove_leftovers(self.checkpoints)
        if found:
            self.progress = load_checkpoint(found[-1], self.trained, distribution)
        training = recipe.training
        self.log = RunLog(
            run_dir,
            distribution.accelerator,
            training.steps,
            training.log_every,
            self.progress.log_bytes,
            self.progress.step,
        )
        self.started = self.waited = 0.0  # when the current step began, and for how long it waited for its data
        self.log.parts(told)
        for line in [f"going on from step {self.progress.step}"] if found else told:
            self.log.say(line)

    def go(self, request: StopRequest) -> None:
        """All steps that are left, with validation, evaluation and checkpoints on the way."""
        training, progress = self.recipe.training, self.progress
        batches = iter(self._loader())
        if self.on_policy is not None and self.on_policy.needs_baseline and progress.step == 0:
            self.on_policy.validated(validate(self.setup, self.module, self.distribution))
        self.module.train()
        if self._evaluation_is_due():  # the run was stopped in the middle of it
            self._end_step(request, best=False)
        while progress.step < training.steps:
            self.watch.start()
            self.started = time.perf_counter()
            with self.watch("data"):
                prepared = [next(batches) for _ in range(self.accumulation)]
            self.waited = time.perf_counter() - self.started
            if self.on_policy is not None:
                with self.watch("data"):
                    prepared = self.on_policy.replaced(prepared, progress.step)
            self._step(prepared)
            every = training.validate_every
            measured = progress.step == training.steps or (every is not None and progress.step % every == 0)
            self._end_step(request, best=measured and self._validate())

    def _end_step(self, request: StopRequest, best: bool) -> None:
        """Evaluation and checkpoint, where they are due; ``best``: whether this student is the best so far.

        Raises:
            StoppedError: a signal asked the run to stop; a checkpoint was written.
        """
        training, progress = self.recipe.training, self.progress
        best = self._evaluate(request) or best
        last = progress.step == training.steps
        due = progress.step % training.checkpoint_every == 0 and not last
        # Asked of one process, all stop after the same step.
        asked = bool(self.distribution.sum([float(request.asked is not None)])[0])
        stops = asked and (not last or self._evaluation_is_due())
        if self.setup.cache is not None and (due or best or stops or last or self._epoch_ended()):
            self.setup.cache.meet(self.distribution)
        if due or best or stops:
            self._save()
        if stops:
            raise StoppedError(
                f"asked to stop ({request.asked or 'another process was'}): a checkpoint of step {progress.step} of "
                f"{training.steps} was written; the same command goes on from it"
            )

    def finish(self) -> None:
        """Save the student: the last, or the best where that is kept; and the average of its weights."""
        if self.progress.dropped:
            counted = ", ".join(f"{reason} {count}" for reason, count in self.progress.dropped.items())
            self.log.say(f"samples left out of their steps, by reason: {counted}")
        setup, distribution, recipe, best = self.setup, self.distribution, self.recipe, self.progress.best_step
        for remark in setup.clock.remarks() if recipe.loss.name == "taid" else ():
            self.log.say(f"note: {remark}")
        average = self.options.average
        averaged = None if average is None else distribution.whole(average.weights)
        if best is not None:
            if best != self.progress.step:
                load_weights(self.checkpoints / f"step-{best:06d}", setup.student)
            self.log.say(f"the student is that of step {best}: {recipe.training.keep_best} {self.progress.best:.4f}")
        distribution.unshard(setup.student)
        if distribution.main:
            measured = [f"held-out {name}: {value:.4f}" for name, value in self.progress.figures.items()]
            card = model_card(recipe, self.run_dir.name, measured, versions() | plug_in_versions(recipe))

            def save(student: Student, name: str) -> None:
                folder = self.run_dir / name
                save_student(student, setup.processor, recipe.student, folder, weights=recipe.save, card=card)

            if averaged is not None:
                save(averaged_student(recipe, averaged), "student-ema")
            # Last, for it says that the run is finished; adapters are merged into it.
            save(setup.student, "student")
        distribution.accelerator.wait_for_everyone()

    def _loader(self) -> Any:
        training, data, world = self.recipe.training, self.recipe.data, self.distribution.world
        micro = training.samples_per_forward(world)
        order = StepOrder(
            len(self.setup.train),
            training.batch_size,
            micro,
            self.recipe.seed,
            self.progress.step,
            training.steps,
            self.distribution.rank,
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
            pin_memory=self.distribution.device.type == "cuda",
        )

    def _step(self, batches: list[PairedBatch]) -> None:
        (rows,) = self._sum([float(sum(len(batch.labels) for batch in batches))])
        totals: dict[str, float] = {}
        for index, batch in enumerate(batches):
            with self.distribution.micro_batch(self.module, last=index + 1 == len(batches)):
                for name, value in self._forward_backward(batch, max(rows, 1.0)).items():
                    totals[name] = totals.get(name, 0.0) + value
        everywhere = self._sum(list(totals.values()))
        self._update(means(dict(zip(totals, everywhere, strict=True)), rows), rows, batches)

    def _forward_backward(self, batch: PairedBatch, rows: float) -> dict[str, float]:
        reversal = reversal_of(self.recipe.loss, self.progress.step, self.recipe.training.steps)
        out = loss_of(self.setup, self.module, batch, self.distribution.device, self.setup.clock.t, reversal)
        # Data-parallel training averages over processes; the loss is a sum over the rows of all of them.
        loss = self.options.scale(out.loss * (self.distribution.world / rows))
        with self.watch("backward"):
            self.distribution.backward(loss)
        return figures_of(out)

    def _update(self, figures: dict[str, float], rows: float, batches: list[PairedBatch]) -> None:
        progress, clock = self.progress, self.setup.clock
        t = clock.t
        with self.watch("optimizer"):
            self.options.unscale(self.optimizer)
            norm = self.distribution.clip(self._learning(), self.recipe.training.max_grad_norm)
            sound = self.options.step(self.optimizer, rows, figures["loss"], norm)
            self.optimizer.zero_grad()
        rates = {f"lr_{group['name']}": group["lr"] for group in self.optimizer.param_groups}
        self.schedule.step()
        if not self.options.overflowed:
            clock.update(figures.get(self.recipe.loss.clock_signal, figures["loss"]) if sound else None, progress.step)
        progress.step += 1
        seen = sum(int(batch.student.attention_mask.sum()) for batch in batches)
        tokens, *dropped = self._sum([float(seen), *map(float, dropped_by_reason(batches))])
        for reason, count in zip(REASONS, dropped, strict=True):
            if count:
                progress.dropped[reason] = progress.dropped.get(reason, 0) + int(count)
        figures = {**figures, "grad_norm": norm, "rows": rows}
        if self.recipe.loss.name == "taid":
            figures |= {"t": t, "momentum": clock.momentum}
        if self.trained.temperature is not None:
            with gathered(self.trained.temperature.parameters()):
                figures["temperature"] = float(self.trained.temperature(0.0).detach())
        figures |= rates | {"dropped": float(sum(progress.dropped.values())), "skipped": float(clock.skipped)}
        figures |= self.options.figures()
        if self.on_policy is not None:
            figures |= self.on_policy.figures(self._sum)
        self.log.step(progress.step, figures, self._speed(tokens))
        progress.skipped_in_a_row = 0 if sound or self.options.overflowed else progress.skipped_in_a_row + 1
        if not sound and not self.options.overflowed:
            self._skipped(figures, batches)

    def _speed(self, tokens: float) -> dict[str, float]:
        seconds = time.perf_counter() - self.started
        speed = {"seconds": seconds, "data_seconds": self.waited, "tokens_per_second": tokens / seconds}
        parts = {f"seconds_{name}": spent for name, spent in self.watch.split().items()}
        return speed | parts | {"memory_bytes": float(peak_memory(self.distribution.device))}

    def _skipped(self, figures: dict[str, float], batches: list[PairedBatch]) -> None:
        """Write down what was in a step that could not be taken, and give up after too many.

        Raises:
            UserError: the loss or its gradient was not finite in ``max_skipped`` steps in a row.
        """
        ids = [name for some in self.distribution.gather([n for batch in batches for n in batch.ids]) for name in some]
        file = self.log.skipped(self.progress.step, figures, ids)
        if self.progress.skipped_in_a_row >= self.recipe.training.max_skipped and not figures["rows"]:
            counted = ", ".join(f"{reason} {count}" for reason, count in self.progress.dropped.items())
            raise UserError(
                f"no sample could be used in {self.progress.skipped_in_a_row} steps in a row; left out so far, by reason: {counted}"
            )
        if self.progress.skipped_in_a_row >= self.recipe.training.max_skipped:
            raise UserError(
                f"the loss or its gradient was not finite in {self.progress.skipped_in_a_row} steps in a row; the last samples: "
                f"{', '.join(ids[:8])}; all of them are in {file}; lower training.lr, or look at these samples"
            )

    def _epoch_ended(self) -> bool:
        size, batch = len(self.setup.train), self.recipe.training.batch_size
        return self.progress.step * batch // size != (self.progress.step - 1) * batch // size

    def _validate(self) -> bool:
        """Measure the held-out samples; returns whether this student is the best so far and is to be kept."""
        if self.setup.validation is None:
            return False
        figures = validate(self.setup, self.module, self.distribution)
        self.log.validation(self.progress.step, figures)
        if self.on_policy is not None:
            self.on_policy.validated(figures)
        kept, progress = self.recipe.training.keep_best, self.progress
        if kept is None:
            progress.figures = figures
        if kept is None or kept == "evaluation":
            return False
        if kept not in figures:
            raise UserError(f"training.keep_best: there is no held-out figure {kept!r}, found: {', '.join(figures)}")
        better = progress.best is None or figures[kept] < progress.best
        return better and math.isfinite(figures[kept]) and self._keeps(figures[kept], figures)

    def _evaluation_is_due(self) -> bool:
        step = self.progress.step
        return self.evaluations is not None and self.evaluations.due(step) and self.progress.evaluated != step

    def _evaluate(self, request: StopRequest) -> bool:
        """Measure the student on tasks, if that is due; returns whether it is the best so far and is to be kept."""
        if self.evaluations is None or not self._evaluation_is_due():
            return False
        progress, began = self.progress, time.perf_counter()
        scores = self.evaluations.measure(progress.step, lambda: request.asked is not None)
        if scores is None:  # asked to stop: the run that goes on does the rest
            return False
        progress.evaluated = progress.step
        self.log.evaluation(progress.step, scores, time.perf_counter() - began)
        deciding = next(iter(scores.values())).value
        better = progress.best is None or deciding > progress.best
        figures = {task: score.value for task, score in scores.items()}
        return self.recipe.training.keep_best == "evaluation" and better and self._keeps(deciding, figures)

    def _keeps(self, best: float, figures: dict[str, float]) -> bool:
        self.progress.best, self.progress.best_step, self.progress.figures = best, self.progress.step, figures
        return True

    def _save(self) -> None:
        self.log.sync()
        self.progress.log_bytes = self.log.bytes
        save_checkpoint(
            self.checkpoints, self.trained, self.progress, self.recipe.training.keep_last, self.distribution
        )

    def _sum(self, values: list[float]) -> list[float]:
        with self.watch("communication"):
            return self.distribution.sum(values)

    def _learning(self) -> list[torch.nn.Parameter]:
        return [p for p in self.setup.student.parameters() if p.requires_grad]
