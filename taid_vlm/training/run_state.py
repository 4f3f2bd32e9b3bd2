"""What a run works on from its first step to its last, made anew or from its last checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taid_vlm.models.trained_parts import told_parts
from taid_vlm.recipe import Recipe
from taid_vlm.training.checkpoint import Progress, Trained, complete_checkpoints, load_checkpoint, remove_leftovers
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.log import RunLog
from taid_vlm.training.on_policy import OnPolicy
from taid_vlm.training.optimizer import make_optimizer, make_schedule
from taid_vlm.training.options import Options
from taid_vlm.training.setup import Setup
from taid_vlm.training.step import DistillationStep


@dataclass(frozen=True)
class RunState:
    """The parts of a run; what changes are their insides.

    Attributes:
        module: student and loss, as they are distributed.
        trained: what a checkpoint holds: the student, optimizer, schedule, clock and CTKD's temperature.
        on_policy: writes answers of the student's own; None where it learns from the data alone.
    """

    recipe: Recipe
    run_dir: Path
    distribution: Distribution
    setup: Setup
    options: Options
    module: Any
    trained: Trained
    on_policy: OnPolicy | None
    progress: Progress
    log: RunLog

    @property
    def checkpoints(self) -> Path:
        """The folder that they are in."""
        return self.run_dir / "checkpoints"

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.progress.step >= self.recipe.training.steps

    def sum(self, values: list[float]) -> list[float]:
        """Over all processes."""
        with self.setup.watch("communication"):
            return self.distribution.sum(values)


def begin(recipe: Recipe, run_dir: Path, distribution: Distribution, setup: Setup) -> RunState:
    """Distribute the student, make what trains it, and put the last checkpoint's state into all of it."""
    options = Options(recipe, setup.student, distribution.device)
    told = [*told_parts(setup.student), *(f"note: {note}" for note in options.prepare_model())]
    step = DistillationStep(setup.student, setup.spec, setup.vocabulary, recipe.loss, setup.watch)
    module: Any = distribution.wrap(step, setup.precision)
    options.begin()
    on_policy = OnPolicy.of(recipe, setup, distribution.device, distribution.rank, distribution.world)
    optimizer: Any = make_optimizer(setup.student, recipe, step.temperature)
    schedule = make_schedule(optimizer, recipe)
    module, optimizer = distribution.join(module, optimizer, recipe, setup.precision)
    trained = Trained(
        setup.student,
        optimizer,
        schedule,
        setup.clock,
        step.temperature,
        shared={"options": options},
        own={"on_policy": on_policy} if on_policy is not None else {},
    )
    found = _last_checkpoint(run_dir / "checkpoints", distribution)
    progress = Progress() if found is None else load_checkpoint(found, trained, distribution)
    steps, every = recipe.training.steps, recipe.training.log_every
    log = RunLog(run_dir, distribution.accelerator, steps, every, progress.log_bytes, progress.step)
    log.parts(told)
    for line in told if found is None else [f"going on from step {progress.step}"]:
        log.say(line)
    return RunState(recipe, run_dir, distribution, setup, options, module, trained, on_policy, progress, log)


def _last_checkpoint(folder: Path, distribution: Distribution) -> Path | None:
    """The newest that is whole, the same for all processes; leftovers of a killed run are removed."""
    found = complete_checkpoints(folder)
    distribution.agree([path.name for path in found[-1:]], "checkpoints")
    if distribution.main:
        remove_leftovers(folder)
    return found[-1] if found else None
