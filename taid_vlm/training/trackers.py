"""Trackers of a run, checked before anything is loaded."""

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.recipe import Recipe


def usable_trackers(recipe: Recipe) -> list[str]:
    """Names of trackers, each of which can be used: accelerate itself would go on without one that is not installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

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
