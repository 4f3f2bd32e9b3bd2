"""Metrics by name: from all scored answers of a task to one figure, or several, with 95 % intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from taid_vlm.common.plug_ins import METRICS as PLUG_INS
from taid_vlm.common.registry import Registry
from taid_vlm_eval.arrays import Floats, Integers
from taid_vlm_eval.marks import marks_of, numbered
from taid_vlm_eval.metrics.intervals import bootstrap_means, wilson_interval


@dataclass(frozen=True)
class Scored:
    """One item after scoring; answer and truth are kept for metrics that look at the whole set (CIDEr, say).

    ``reading`` is what the scorer took the answer to say; ``facts`` what the data says of the item (its category, its
    figure, the question it is a rotation of).
    """

    id: str
    cluster: str
    answer: str
    truth: str | list[str]
    value: float
    reading: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """A figure and the bounds of its 95 % interval, all in the unit of the metric.

    Attributes:
        named: further figures of the same metric, by name: categories, parts, counts.
        top: the largest value possible (1 for shares; MME counts points).
        draws: the figure in each draw of the bootstrap, [R], nan where it is not defined. Two models that answered the same
            items are drawn alike, so the differences of their draws are those of pairs.
        behind: how many clusters the figure rests on.
    """

    value: float
    low: float
    high: float
    named: Mapping[str, "Estimate"] = field(default_factory=dict)
    top: float = 1.0
    draws: Floats | None = field(default=None, compare=False, repr=False)
    behind: int = field(default=0, compare=False, repr=False)


TAILS = [(1 - 0.95) / 2, 1 - (1 - 0.95) / 2]  # of a 95 % interval
Metric = Callable[[Sequence[Scored], int], Estimate]
METRICS: Registry[Metric] = Registry("metric", PLUG_INS)


def interval_without_spread(mean: float, distinct: int) -> tuple[float, float]:
    """Wilson's interval with ``distinct`` clusters as trials, for when resampling cannot see any spread.

    It is a safe one: no variable in [0, 1] varies more than a yes-or-no one of the same mean.
    """
    # Rounding may carry a mean of ones past one.
    return wilson_interval(min(max(mean, 0.0), 1.0) * distinct, distinct)


def clusters_of(scored: Sequence[Scored]) -> Integers:
    """The clusters of items as numbers, in the order in which they come first, [N]: their names would not fit into memory."""
    return numbered(marks_of(one.cluster for one in scored))[0]


def mean_of_unit_scores(scored: Sequence[Scored], seed: int) -> Estimate:
    """Mean of scores in [0, 1] with a bootstrap interval over clusters.

    Where resampling cannot see any spread (one cluster, or equal means in all clusters), the interval is Wilson's.
    """
    values_N = np.fromiter((one.value for one in scored), dtype=np.float64, count=len(scored))
    clusters_N = clusters_of(scored)
    mean = float(sum(values_N)) / len(values_N)
    draws_R, behind = bootstrap_means(values_N, clusters_N, seed=seed), int(clusters_N.max()) + 1
    low, high = np.quantile(draws_R, TAILS).tolist()
    if high - low < 1e-9:
        low, high = interval_without_spread(mean, behind)
    return Estimate(mean, low, high, draws=draws_R, behind=behind)


METRICS.register("accuracy")(mean_of_unit_scores)
METRICS.register("rouge_l")(mean_of_unit_scores)
