"""Trackers of a run: checked before anything is loaded, told of the recipe, and closed at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from taid_vlm.common.errors import UserError
from taid_vlm.common.plug_ins import TRACKERS, near_or_outside, plug_in, plug_ins
from taid_vlm.recipe import Recipe
from taid_vlm.recipe.origin import flat

PROJECT = "taid-vlm"  # under which W&B, trackio and MLflow file the runs


def usable_trackers(recipe: Recipe, run_dir: Path = Path()) -> list[Any]:
    """Names of trackers, each of which can be used, and trackers that packages bring.

    accelerate itself would go on without one that is not installed.

    Raises:
        UserError: an unknown tracker, or one that is not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = [str(name) for name in LOGGER_TYPE_TO_CLASS]
    usable = [str(name) for name in get_available_trackers()]
    trackers: list[Any] = []
    for name in recipe.training.trackers:
        outside = plug_in(TRACKERS, name, built_in=name in known)
        if outside is not None:
            trackers.append(outside.load()(run_dir))
            continue
        if name not in known:
            names = {*known, *(one.name for one in plug_ins(TRACKERS))}
            raise UserError(f"unknown tracker {name!r}: {near_or_outside(name, names)}")
        if name not in usable:
            raise UserError(
                f"tracker {name!r} is not installed: pip install {name.replace('_', '-')}, or choose another"
            )
        trackers.append(name)
    return trackers


@contextmanager
def tracked(accelerator: Accelerator, recipe: Recipe, run_dir: Path) -> Iterator[None]:
    """Start the trackers, with the recipe as their configuration, and close them whatever happens."""
    settings = {key: value for key, value in flat(recipe.model_dump(mode="json")).items() if value not in (None, {})}
    told = {key: v if isinstance(v, (bool, int, float, str)) else str(v) for key, v in settings.items()}
    names: dict[str, Any] = {
        "wandb": {"name": run_dir.name, "dir": str(run_dir)},
        "trackio": {"name": run_dir.name},
        "mlflow": {"run_name": run_dir.name},
    }
    accelerator.init_trackers(PROJECT, init_kwargs=names)
    try:
        for tracker in accelerator.trackers:
            if tracker.name != "tensorboard":  # which would begin a run of its own for it, at each start
                tracker.store_init_configuration(told)
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()
