"""Trackers of a run: checked before anything is loaded, told of the recipe and of each step, and closed at the end.

A run that goes on goes on in its trackers, too: the names under which they know it are kept in the run's folder.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import FULL_ERRNO, write_atomic
from taid_vlm.common.plug_ins import TRACKERS, near_or_outside, plug_in, plug_ins
from taid_vlm.common.stopping import RESUMABLE, StoppedError
from taid_vlm.common.telling import for_terminal
from taid_vlm.recipe import Recipe
from taid_vlm.recipe.origin import flat

PROJECT = "taid-vlm"  # under which W&B, trackio and MLflow file the runs
KNOWN_AS = "trackers.json"  # in the run's folder: what each tracker calls the run
EXTRAS = ("wandb", "trackio", "mlflow")  # trackers that an extra of ours installs
NESTED = ("wandb", "trackio")  # trackers whose settings are a tree, as the recipe is; the others have names and values


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
            package = f"'taid-vlm[{name}]'" if name in EXTRAS else name.replace("_", "-")
            raise UserError(f"tracker {name!r} is not installed: pip install {package}, or choose another")
        trackers.append(name)
    return trackers


@contextmanager
def tracked(accelerator: Accelerator, recipe: Recipe, run_dir: Path) -> Iterator[None]:
    """Start the trackers, with the recipe as their settings, and close them with how the run ended, whatever happens.

    Raises:
        UserError: a tracker did not start.
    """
    _start(accelerator, recipe, run_dir)
    try:
        yield
    except BaseException as error:
        _finish(accelerator, error)
        raise
    _finish(accelerator, None)


def tell(accelerator: Accelerator, figures: Mapping[str, float], step: int, say: Callable[[str], None]) -> None:
    """Tell every tracker; one that fails is left out from then on, for training can do without it.

    Raises:
        OSError: the disk is full, which training cannot do without.
    """
    for tracker in list(accelerator.trackers):
        try:
            tracker.log(dict(figures), step=step)
        except Exception as error:  # whatever a library or its server says
            if isinstance(error, OSError) and error.errno in FULL_ERRNO:
                raise
            accelerator.trackers.remove(tracker)
            say(f"note: the tracker {tracker.name} is left out from step {step} on: {_first_line(error)}")


def _start(accelerator: Accelerator, recipe: Recipe, run_dir: Path) -> None:
    known_as = _known_as(run_dir)
    try:
        accelerator.init_trackers(PROJECT, init_kwargs=_started_with(run_dir, known_as))
        for tracker in accelerator.trackers:
            # TensorBoard would begin a run of its own for them, at each start; MLflow's may not be told twice.
            if tracker.name != "tensorboard" and not (tracker.name == "mlflow" and "mlflow" in known_as):
                tracker.store_init_configuration(_settings(recipe, nested=tracker.name in NESTED))
    except Exception as error:  # whatever a library or its server says
        again = f" To begin anew in them, delete {run_dir / KNOWN_AS}." if known_as else ""
        raise UserError(
            f"the trackers ({', '.join(recipe.training.trackers)}) do not start: {_first_line(error)}. Log in to their servers, set WANDB_MODE=offline or "
            f"MLFLOW_TRACKING_URI, or choose others in training.trackers.{again}"
        ) from error
    names_now = {tracker.name: name for tracker in accelerator.trackers if (name := _name_of(tracker))}
    if names_now and names_now != known_as:
        write_atomic(run_dir / KNOWN_AS, json.dumps(names_now, indent=2) + "\n")


def _known_as(run_dir: Path) -> dict[str, str]:
    file = run_dir / KNOWN_AS
    return json.loads(file.read_text()) if file.is_file() else {}


def _started_with(run_dir: Path, known_as: Mapping[str, str]) -> dict[str, Any]:
    """What each library is told to begin a run of this name, or to go on with the one that it knows."""
    name = run_dir.name
    wandb: dict[str, Any] = {"name": name, "dir": str(run_dir)}
    mlflow, trackio = {"run_name": name}, {"name": name}
    if "wandb" in known_as:
        wandb |= {"id": known_as["wandb"], "resume": "allow"}
    if "mlflow" in known_as:
        mlflow |= {"run_id": known_as["mlflow"]}
    if "trackio" in known_as:
        trackio |= {"name": known_as["trackio"], "resume": "allow"}
    return {"wandb": wandb, "mlflow": mlflow, "trackio": trackio}


def _name_of(tracker: Any) -> str:
    """What a tracker calls the run that it has started; empty where it cannot go on with it."""
    if tracker.name == "wandb":
        return str(tracker.tracker.id)
    if tracker.name == "mlflow":
        return str(tracker.tracker.info.run_id)
    return str(tracker.tracker.name) if tracker.name == "trackio" else ""


def _settings(recipe: Recipe, nested: bool) -> dict[str, Any]:
    content = recipe.model_dump(mode="json", exclude_none=True)
    if nested:
        return content
    settings = {key: value for key, value in flat(content).items() if value != {}}
    return {key: v if isinstance(v, (bool, int, float, str)) else str(v) for key, v in settings.items()}


def _finish(accelerator: Accelerator, error: BaseException | None) -> None:
    """Close all trackers; what goes wrong there must not hide how the run ended."""
    for tracker in accelerator.trackers:
        try:
            _close(tracker, error)
        except Exception as failed:  # whatever a library or its server says
            accelerator.print(f"note: the tracker {tracker.name} was not closed: {_first_line(failed)}")
    accelerator.trackers.clear()


def _close(tracker: Any, error: BaseException | None) -> None:
    stopped = isinstance(error, StoppedError | KeyboardInterrupt)
    if tracker.name == "trackio":
        import trackio

        trackio.finish()  # closed by its run alone, it would be closed, and say so, again when the process ends
    elif error is None:
        tracker.finish()
    elif tracker.name == "wandb":
        if stopped:
            tracker.tracker.mark_preempting()  # W&B's word for a run that will be gone on with
        tracker.tracker.finish(exit_code=RESUMABLE if stopped else 1)
    elif tracker.name == "mlflow":
        import mlflow

        mlflow.end_run("KILLED" if stopped else "FAILED")
    else:
        tracker.finish()


def _first_line(error: Exception) -> str:
    said = str(error).strip() or "it says no more"
    return for_terminal(f"{type(error).__name__}: {said.splitlines()[0]}")  # servers' addresses may hold passwords
