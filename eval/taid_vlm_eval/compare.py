"""What two evaluations of the same items differ in: paired figures with intervals, and the items themselves.

Differences are taken draw by draw of one bootstrap: both models are drawn on the same clusters, so what makes an item hard
for both cancels out, and the interval is that of pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve
from taid_vlm_eval.arrays import Floats
from taid_vlm_eval.compare_categories import MEANS, Categories, categories, category_means
from taid_vlm_eval.compare_read import (
    Evaluation,
    common_tasks,
    items_of,
    moved,
    read_evaluation,
    require_alike,
    scored_again,
    unlike,
)
from taid_vlm_eval.data import Item
from taid_vlm_eval.metrics import METRICS, Estimate, Scored, wilson_interval
from taid_vlm_eval.metrics.aggregate import TAILS
from taid_vlm_eval.metrics.divergence import SUMS
from taid_vlm_eval.task_files import load_task

LOWER_IS_BETTER = {
    "divergence": {"divergence", *SUMS} - {"agreement"},
    "continuation": {"perplexity"},
}  # by metric; of all others, more is better


@dataclass(frozen=True)
class Difference:
    """``first`` minus ``second`` with its 95 % interval, of one figure with values from 0 to ``top``.

    ``first_interval`` and ``second_interval`` are the 95 % intervals of the two values, each on its own.
    """

    figure: str
    first: float
    first_interval: tuple[float, float]
    second: float
    second_interval: tuple[float, float]
    difference: float
    low: float
    high: float
    top: float
    lower_is_better: bool = False

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Pair:
    """Two evaluations of one task.

    Attributes:
        first, second: their folders; ``labels`` are the ends of these that tell all folders of the call apart.
        models: what the two models say of themselves.
        differences: the task's figure first, then its named ones (parts, categories), then the means of further categories.
        items, scored: what the two scored, in one order, all of it on disk; ``scored[0]`` is of ``first``.
        gains_N: how much more each item is worth to the first.
        groups: the category of each item, for each fact that sorts them.
        notes: what differs in how the two were asked.
    """

    task: str
    metric: str
    first: str
    second: str
    labels: tuple[str, str]
    models: tuple[Mapping[str, Any], Mapping[str, Any]]
    differences: list[Difference]
    items: Sequence[Item]
    scored: tuple[Sequence[Scored], Sequence[Scored]]
    gains_N: Floats
    groups: Categories
    notes: list[str]


def compare(
    folders: Sequence[str | Path], *, tasks: Sequence[str] = (), tasks_folders: Sequence[str | Path] = ()
) -> list[Pair]:
    """Compare the first folder of an evaluation with each of the others, on the tasks that all of them finished.

    Answers are scored again, as the results say, so the data must be at hand.

    Args:
        folders: what ``taid-vlm eval`` wrote, two or more.
        tasks: only these.
        tasks_folders: more folders to look for task files in.

    Raises:
        UserError: fewer than two folders, no task in common, an evaluation that is broken or of other data, scorer or mode.
    """
    paths = [Path(resolve(str(folder))) for folder in folders]
    if len(paths) < 2 or len(set(paths)) < len(paths):
        raise UserError(f"found {len(set(paths))} folders to compare, expected two or more, each once")
    labels = distinct_ends(paths)
    pairs = []
    for task in common_tasks(paths, tasks):
        evaluations = [read_evaluation(path, task) for path in paths]
        for one in evaluations[1:]:
            require_alike(task, evaluations[0], one)
        pairs += _pairs(task, evaluations, labels, tasks_folders)
    return pairs


def _pairs(
    task: str, evaluations: Sequence[Evaluation], labels: Sequence[str], tasks_folders: Sequence[str | Path]
) -> list[Pair]:
    task_file, items = items_of(load_task(task, tasks_folders), evaluations[0])
    metric, seed = task_file.task.metric, evaluations[0].state["seed"]
    scored = [scored_again(task_file, items, one) for one in evaluations]
    groups = categories(scored[0])
    estimates = [estimate_all(metric, one, groups, seed) for one in scored]
    values = [np.fromiter((one.value for one in rows), dtype=np.float64, count=len(rows)) for rows in scored]
    told = [moved(one, estimate) for one, estimate in zip(evaluations, estimates, strict=True)]
    return [
        Pair(
            task=task,
            metric=metric,
            first=str(evaluations[0].folder),
            second=str(evaluations[place].folder),
            labels=(labels[0], labels[place]),
            models=(evaluations[0].state["model"], evaluations[place].state["model"]),
            differences=differences(metric, estimates[0], estimates[place]),
            items=items,
            scored=(scored[0], scored[place]),
            gains_N=values[0] - values[place],
            groups=groups,
            notes=[*unlike(evaluations[0], evaluations[place]), *told[0], *told[place]],
        )
        for place in range(1, len(evaluations))
    ]


def estimate_all(metric: str, scored: Sequence[Scored], groups: Categories, seed: int) -> Estimate:
    """The metric's figures, and where it is a mean of the items' values, that of each category it does not look at itself."""
    estimate = METRICS.get(metric)(scored, seed)
    if metric not in MEANS:
        return estimate
    heads = {name.split("/")[0] for name in estimate.named if "/" in name}
    further = {key: names for key, names in groups.items() if key not in heads}
    return replace(estimate, named={**estimate.named, **category_means(scored, further, seed)})


def differences(metric: str, first: Estimate, second: Estimate) -> list[Difference]:
    """The difference of two estimates of the same items, then those of their named figures.

    Raises:
        ValueError: an estimate keeps no draws.
    """
    named = [(name, first.named[name], second.named[name]) for name in first.named if name in second.named]
    lower = LOWER_IS_BETTER.get(metric, ())
    return [_difference(name, one, other, name in lower) for name, one, other in [(metric, first, second), *named]]


def _difference(name: str, first: Estimate, second: Estimate, lower_is_better: bool) -> Difference:
    if first.draws is None or second.draws is None:
        raise ValueError(f"the metric of {name!r} keeps no draws of its bootstrap, so no pairs can be made")
    gap = first.value - second.value
    drawn_R = first.draws - second.draws
    drawn_R = drawn_R[~np.isnan(drawn_R)]
    low, high = np.quantile(drawn_R, TAILS).tolist() if drawn_R.size else (gap, gap)
    if high - low < 1e-9 * first.top:
        # No draw differs from another; as for a single figure, Wilson's interval with the clusters as trials.
        share = min(abs(gap) / first.top, 1.0)
        least, most = wilson_interval(share * first.behind, first.behind)
        if share < 1e-9:
            least = -most
        low, high = sorted(bound * first.top * (-1 if gap < 0 else 1) for bound in (least, most))
    intervals = (first.low, first.high), (second.low, second.high)
    return Difference(
        name, first.value, intervals[0], second.value, intervals[1], gap, low, high, first.top, lower_is_better
    )


def distinct_ends(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as tell all of them apart."""
    length = max(len(path.parts) for path in paths)
    for count in range(1, length):
        ends = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(ends)) == len(ends):
            return ends
    return [str(path) for path in paths]
