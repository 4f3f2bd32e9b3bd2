"""Metrics by name: from all scored answers of a task to one figure with its 95 % interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taid_vlm.common.registry import Registry
from taid_vlm_eval.metrics.intervals import bootstrap_interval, wilson_interval


@dataclass(frozen=True)
class Scored:
    """One item after scoring; answer and truth are kept for metrics that look at the whole set (CIDEr, say)."""

    id: str
    cluster: str
    answer: str
    truth: str | list[str]
    value: float


@dataclass(frozen=True)
class Estimate:
    """A figure and the bounds of its 95 % interval, all in the unit of the metric."""

    value: float
    low: float
    high: float


Metric = Callable[[Sequence[Scored], int], Estimate]
METRICS: Registry[Metric] = Registry("metric")


def mean_of_unit_scores(scored: Sequence[Scored], seed: int) -> Estimate:
    """Mean of scores in [0, 1] with a bootstrap interval over clusters.

    Where resampling cannot see any spread (one cluster, or equal means in all clusters), the interval is Wilson's with
    the clusters as trials. It is a safe one: no variable in [0, 1] varies more than a yes-or-no one of the same mean.
    """
    values = [one.value for one in scored]
    clusters = [one.cluster for one in scored]
    mean = sum(values) / len(values)
    low, high = bootstrap_interval(values, clusters, seed=seed)
    if high - low < 1e-9:
        distinct = len(set(clusters))
        # Rounding may carry a mean of ones past one.
        low, high = wilson_interval(min(max(mean, 0.0), 1.0) * distinct, distinct)
    return Estimate(mean, low, high)


METRICS.register("accuracy")(mean_of_unit_scores)
METRICS.register("rouge_l")(mean_of_unit_scores)
