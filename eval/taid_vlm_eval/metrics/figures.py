"""Several figures of one set of items, with intervals from the same draws of whole clusters.

A figure here is a function of sums over items: a mean is a sum over a count, F1 is made of three counts, MME adds the means of
its tasks. So it is enough to add up columns of numbers for each cluster once, and to draw clusters after that.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from taid_vlm_eval.arrays import Floats, Integers
from taid_vlm_eval.metrics.aggregate import Estimate, interval_without_spread
from taid_vlm_eval.metrics.intervals import RESAMPLES, as_numbers, drawn_sums, sums_of


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        of_sums: sums of the columns, [R, K], to the figure of each of R draws, [R]; nan where it is not defined.
        counts: the columns whose sum is the number of items (or groups) behind the figure; it must not be 0 in the data.
        top: the largest value possible.
    """

    of_sums: Callable[[Floats], Floats]
    counts: tuple[int, ...]
    top: float = 1.0


def ratio(above: Floats, below: Floats, empty: float = float("nan")) -> Floats:
    """``above / below`` of arrays of one shape, ``empty`` where ``below`` is 0."""
    ratios: Floats = np.divide(above, below, out=np.full(np.shape(below), empty), where=below != 0)
    return ratios


def mean_of_ratios(sums_RK: Floats, totals: Sequence[int], counts: Sequence[int]) -> Floats:
    """The mean of several means, [R, K] to [R]; in a draw without items of some of them, that of the others."""
    means_RC = ratio(sums_RK[:, list(totals)], sums_RK[:, list(counts)])
    return ratio(np.nansum(means_RC, axis=1), (~np.isnan(means_RC)).sum(axis=1))


def mean_figure(total: int, count: int) -> Figure:
    """The mean whose sum is in column ``total`` and whose number of items is in column ``count``."""
    return Figure(lambda sums_RK: ratio(sums_RK[:, total], sums_RK[:, count]), (count,))


def estimate_figures(
    figures: Mapping[str, Figure],
    columns: Iterable[Floats],
    clusters: Sequence[Hashable] | Integers,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Each figure with its percentile interval; whole clusters are drawn with replacement.

    Draws in which a figure is not defined (a category without items) do not count for it. Where no draw differs from
    another, the interval is Wilson's with the clusters behind the figure as trials.

    Args:
        columns: what each item adds to each sum, K times [N]; they may be made one at a time.
        clusters: the group each item belongs to, [N].

    Raises:
        ValueError: no items, or unequal lengths.
    """
    if len(clusters) == 0:
        raise ValueError("need at least one item, got none")
    sums = sums_of(columns, as_numbers(clusters))
    drawn_RK = drawn_sums(sums, seed=seed, resamples=resamples)
    total_1K = sums.total()[None]
    tail = (1 - level) / 2
    estimates = {}
    for name, figure in figures.items():
        value = float(figure.of_sums(total_1K)[0])
        all_R = figure.of_sums(drawn_RK)
        draws_R = all_R[~np.isnan(all_R)]
        low, high = np.quantile(draws_R, [tail, 1 - tail]).tolist() if draws_R.size else (value, value)
        behind = sums.behind(figure.counts)
        if high - low < 1e-9 * figure.top:
            low, high = (bound * figure.top for bound in interval_without_spread(value / figure.top, behind))
        estimates[name] = Estimate(value, low, high, top=figure.top, draws=all_R, behind=behind)
    return estimates


def with_named(primary: str, estimates: dict[str, Estimate]) -> Estimate:
    """The estimate called ``primary``, with all of them (itself too) as its named ones."""
    return replace(estimates[primary], named=estimates)
