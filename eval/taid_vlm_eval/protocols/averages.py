"""Figures that a protocol makes of several tasks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from taid_vlm.common.files import write_atomic
from taid_vlm_eval.arrays import Floats
from taid_vlm_eval.metrics.aggregate import TAILS
from taid_vlm_eval.protocols.loading import DEFAULT, load_protocol
from taid_vlm_eval.result import Result


@dataclass(frozen=True)
class Average:
    """The mean of several tasks' figures, each as a share of the largest value possible, so ``top`` is 1.

    Attributes:
        average: its name, as the protocol has it.
        low, high: the 95 % interval.
        interval: how it was made. ``paired``: the tasks have the same clusters in the same order (one set of pictures asked about in two
            languages), so they were drawn alike, and the interval is that of the mean of the figures draw by draw. ``bounds``: they do
            not; it goes from the mean of the lows to the mean of the highs, which is wide enough however much the tasks go together, and
            too wide where they do not.
        parts: the share of each task.
    """

    average: str
    value: float
    low: float
    high: float
    top: float
    interval: str
    parts: Mapping[str, float]
    protocol: str

    def to_json(self) -> str:
        """Indented JSON with a line end."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def averages(results: Sequence[Result], protocol: str) -> list[Average]:
    """Each figure of the protocol whose tasks are all among the results."""
    if protocol == DEFAULT:
        return []
    by_task = {one.task: one for one in results}
    wanted = load_protocol(protocol).averages
    return [
        average_of(name, [by_task[part] for part in parts], protocol)
        for name, parts in wanted.items()
        if set(parts) <= set(by_task)
    ]


def average_of(name: str, results: Sequence[Result], protocol: str) -> Average:
    """The mean of the figures of some results; see :class:`Average`."""
    parts = {one.task: one.value / one.top for one in results}
    low, high = (fmean(getattr(one, bound) / one.top for one in results) for bound in ("low", "high"))
    interval = "bounds"
    if (drawn_R := _drawn_alike(results)) is not None:
        # Without any spread, the intervals of the parts are Wilson's, and so are their means.
        least, most = np.quantile(drawn_R, TAILS).tolist()
        if most - least >= 1e-9:
            low, high, interval = least, most, "paired"
    return Average(name, fmean(parts.values()), low, high, 1.0, interval, parts, protocol)


def _drawn_alike(results: Sequence[Result]) -> Floats | None:
    """The mean in each draw, [R]; None where the results were not drawn alike, or a draw has no figure."""
    drawn = [one.draws.figure_R / one.top for one in results if one.draws.figure_R is not None]
    alike = len({(one.draws.clusters, one.seed, one.n) for one in results}) == 1
    if len(drawn) < len(results) or not alike:
        return None
    mean_R: Floats = np.mean(drawn, axis=0)
    return None if np.isnan(mean_R).any() else mean_R


def write_averages(found: Sequence[Average], folder: Path) -> None:
    """A file ``<name>.average.json`` of each, beside the results."""
    for one in found:
        write_atomic(folder / f"{one.average}.average.json", one.to_json())
