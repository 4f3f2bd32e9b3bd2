"""Plug-ins: parts that somebody else's package brings, found by its entry points.

The names of all of them are read from the metadata of installed packages, which imports nothing; the module of one is imported when a
recipe names it. ``docs/plug-ins.md`` shows a package for each group.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from taid_vlm.common.errors import UserError, did_you_mean

VISION_ENCODERS = "taid_vlm.vision_encoders"
PROJECTORS = "taid_vlm.projectors"
LOSSES = "taid_vlm.losses"
DATA_SOURCES = "taid_vlm.data_sources"
TRACKERS = "taid_vlm.trackers"
SCORERS = "taid_vlm.scorers"
METRICS = "taid_vlm.metrics"
TASKS = "taid_vlm.tasks"
# What an entry of each group is, as messages call it.
KINDS = {
    VISION_ENCODERS: "vision encoder library",
    PROJECTORS: "projector",
    LOSSES: "loss",
    DATA_SOURCES: "data source",
    TRACKERS: "tracker",
    SCORERS: "scorer",
    METRICS: "metric",
    TASKS: "task",
}


@dataclass(frozen=True)
class PlugIn:
    """One entry point.

    Attributes:
        package, version: of the distribution that brings it, as pip names it.
        value: where it is, ``module:name``.
    """

    group: str
    name: str
    package: str
    version: str
    value: str
    entry: EntryPoint = field(compare=False, repr=False)

    @property
    def what(self) -> str:
        """Whose it is, for messages."""
        return f"the {KINDS[self.group]} {self.name!r} of the package {self.package} {self.version}"

    def load(self) -> Any:
        """Import it.

        Raises:
            UserError: the import failed, whatever the reason.
        """
        try:
            return self.entry.load()
        except Exception as error:  # whatever the package raises while it is imported
            raise UserError(
                f"{self.what} cannot be imported from {self.value}: {type(error).__name__}: {error}. Install what it needs, repair it, "
                f"or choose another {KINDS[self.group]} and pip uninstall {self.package}"
            ) from error


def plug_ins(group: str) -> tuple[PlugIn, ...]:
    """All of a group, by name; nothing is imported."""
    return _read(group, tuple(sys.path))


@lru_cache(maxsize=64)  # reading the metadata of a few hundred packages takes some hundredths of a second
def _read(group: str, path: tuple[str, ...]) -> tuple[PlugIn, ...]:
    found = []
    for entry in entry_points(group=group):
        package = entry.dist.metadata["Name"] if entry.dist is not None else "unknown"
        version = entry.dist.version if entry.dist is not None else ""
        found.append(PlugIn(group, entry.name, package, version, entry.value, entry))
    return tuple(sorted(found, key=lambda one: (one.name, one.package)))


def plug_in(group: str, name: str, *, built_in: bool = False) -> PlugIn | None:
    """The plug-in called exactly ``name``, not yet imported; None where there is none.

    Args:
        built_in: whether the toolkit itself has an entry of that name.

    Raises:
        UserError: two packages bring one of that name, or a package brings one that is built in.
    """
    found = [one for one in plug_ins(group) if one.name == name]
    if found and built_in:
        raise UserError(
            f"the {KINDS[group]} {name!r} is built in, and the package {found[0].package} {found[0].version} brings another of that name: "
            f'rename it in [project.entry-points."{group}"] of that package, or pip uninstall {found[0].package}'
        )
    if len(found) > 1:
        owners = " and ".join(f"{one.package} {one.version}" for one in found)
        raise UserError(f"the {KINDS[group]} {name!r} is in the packages {owners}: pip uninstall all but one of them")
    return found[0] if found else None


def near_or_outside(name: str, known: Iterable[str]) -> str:
    """The names closest to ``name``, and that it may be one of a package that is not installed."""
    near = did_you_mean(name, known)
    return f"{near}{'' if near.endswith('?') else '.'} If a package brings it, install that: docs/plug-ins.md"


def all_plug_ins() -> tuple[PlugIn, ...]:
    """Those of every group."""
    return tuple(one for group in KINDS for one in plug_ins(group))
