"""Trains recipes one after the other in the processes it is started in, with mishaps on the way.

    torchrun --nproc_per_node=2 -m tests.training.zero_worker FOLDER STRATEGY/NAME/MISHAP ...

trains ``FOLDER/NAME.yaml`` under a strategy into ``FOLDER/STRATEGY-NAME-MISHAP``.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from taid_vlm.common.stopping import StoppedError
from taid_vlm.recipe import load_recipe
from taid_vlm.training import loop, update
from tests.training.splits_worker import deepspeed_settings


def train_with(folder: Path, strategy: str, name: str, mishap: str) -> Path:
    """``smooth``: none. ``cut``: stopped after its first checkpoint and started again. ``skips``: two steps cannot be taken."""
    os.environ["ACCELERATE_USE_DEEPSPEED"] = str(strategy.startswith("zero")).lower()
    if strategy.startswith("zero"):
        os.environ |= deepspeed_settings(strategy, folder)
    run_dir, recipe = folder / f"{strategy}-{name}-{mishap}", load_recipe(str(folder / f"{name}.yaml"))
    if mishap == "cut":
        with stopped_after_saving(), suppress(StoppedError):
            loop.train(recipe, run_dir)
        assert not (run_dir / "student").exists()
    with steps_that_cannot_be_taken() if mishap == "skips" else nullcontext():
        loop.train(recipe, run_dir)
    return run_dir


@contextmanager
def stopped_after_saving() -> Iterator[None]:
    save = loop._Run._save

    def stopping(self: Any) -> None:
        save(self)
        raise StoppedError("stopped by the test")

    loop._Run._save = stopping  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop._Run._save = save  # type: ignore[method-assign]


@contextmanager
def steps_that_cannot_be_taken() -> Iterator[None]:
    """In the second step the last process's loss is not a number; in the third it is only said to be, and gradients are sound."""
    forward, steps = update.Update._forward_backward, update.loss_of

    def seen(self: Any, *arguments: Any) -> dict[str, float]:
        distribution, step = self.state.distribution, self.state.progress.step
        last = distribution.rank + 1 == distribution.world

        def loss_of(*given: Any) -> Any:
            out = steps(*given)
            return replace(out, loss=out.loss * torch.nan) if step == 1 and last else out

        update.loss_of = loss_of  # type: ignore[assignment]
        figures = forward(self, *arguments)
        return {**figures, "loss": float("nan")} if step == 2 else figures

    update.Update._forward_backward = seen  # type: ignore[method-assign]
    try:
        yield
    finally:
        update.Update._forward_backward, update.loss_of = forward, steps  # type: ignore[method-assign]


if __name__ == "__main__":
    Accelerator.end_training = lambda self: None  # type: ignore[method-assign]  # it would end the processes' group
    for asked in sys.argv[2:]:
        train_with(Path(sys.argv[1]), *asked.split("/"))
