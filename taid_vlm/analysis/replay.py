"""The clock of TAID run again over losses that are written down, with its own settings or others."""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from taid_vlm.common.errors import UserError
from taid_vlm.losses import TAIDClock
from taid_vlm.recipe.loss_config import LossConfig
from taid_vlm.report.run_files import Run

# Of one update: the loss; NaN where the clock was told that there was none; None where it was told nothing.
Signal = float | None


@dataclass(frozen=True)
class Settings:
    """What a clock is made of; ``alpha`` is per update."""

    steps: int
    schedule: str = "adaptive"
    alpha: float = 5e-4
    beta: float = 0.99
    t_start: float = 0.4
    t_end: float = 1.0
    set_point: float | None = None

    def clock(self) -> TAIDClock:
        """A new clock.

        Raises:
            UserError: a setting is out of range.
        """
        given = asdict(self)
        return TAIDClock(given.pop("steps"), **given)


@dataclass(frozen=True)
class Trace:
    """t that each loss is computed with, and the momentum after it, as a run writes both down."""

    t: list[float]
    momentum: list[float]


def replay(settings: Settings, signals: Sequence[Signal]) -> Trace:
    """The clock's path over one signal per optimizer step."""
    clock, ts, momenta = settings.clock(), [], []
    for step, signal in enumerate(signals):
        ts.append(clock.t)
        if signal is not None:
            clock.update(signal, step)
        momenta.append(clock.momentum)
    return Trace(ts, momenta)


def synthetic(steps: int, noise: float, seed: int) -> list[Signal]:
    """A loss that falls from 3 nats to about 0.9, quickly at first, times log-normal noise of mean 1."""
    if not (noise >= 0 and math.isfinite(noise)):
        raise UserError(f"noise is {noise}, expected a finite number that is not below 0")
    draws = random.Random(seed)
    found: list[Signal] = []
    for step in range(steps):
        smooth = 0.5 + 2.5 / math.sqrt(1 + 50 * step / steps)
        found.append(smooth * math.exp(noise * draws.gauss(0, 1) - noise**2 / 2))
    return found


@dataclass(frozen=True)
class Recorded:
    """What a run wrote down of its clock.

    Attributes:
        settings: of the recipe; the rate is per update.
        signals: of each step. t, momentum: of each step, empty for a run that had no clock.
        signal: the name of the figure.
    """

    name: str
    settings: Settings
    signals: list[Signal]
    t: list[float]
    momentum: list[float]
    signal: str


def recorded(run: Run) -> Recorded:
    """Read the loss that drove the clock, or would have driven it, from a run's metrics.

    Raises:
        UserError: no steps are written down, steps are missing, or the recipe cannot be read.
    """
    loss = _loss(run)
    if not run.steps:
        raise UserError(
            f"{run.folder} has no training step written down; train it first, or give --loss-curve synthetic"
        )
    if [row["step"] for row in run.steps] != list(range(1, run.done + 1)):
        raise UserError(
            f"{run.folder}: metrics.jsonl does not have every step from 1 to {run.done}, so the clock cannot be replayed"
        )
    clock = TAIDClock(run.total, **loss.clock)
    settings = Settings(run.total, clock.schedule, clock.alpha, clock.beta, clock.t_start, clock.t_end, clock.set_point)
    has_clock = loss.name == "taid" and all("t" in row for row in run.steps)
    return Recorded(
        run.name,
        settings,
        _signals(run.steps, loss.clock_signal),
        [row["t"] for row in run.steps] if has_clock else [],
        [row["momentum"] for row in run.steps] if has_clock else [],
        loss.clock_signal if loss.clock_signal in run.steps[0] else "loss",
    )


def _loss(run: Run) -> LossConfig:
    try:
        return LossConfig.model_validate(run.part("loss"))
    except ValidationError as error:
        raise UserError(f"{run.folder}: the recipe's loss cannot be read: {str(error).splitlines()[0]}") from error


def _signals(rows: Sequence[dict[str, Any]], name: str) -> list[Signal]:
    """A step that was skipped told the clock of no loss; one that overflowed in fp16 did not tell it anything."""
    found: list[Signal] = []
    for before, row in pairwise([{}, *rows]):
        if row.get("overflowed", 0) > before.get("overflowed", 0):
            found.append(None)
        elif row.get("skipped", 0) > before.get("skipped", 0):
            found.append(math.nan)
        else:
            found.append(float(row.get(name, row["loss"])))
    return found
