"""Several figures of one set of items, with intervals from the same draws of whole clusters.

A figure here is a function of sums over items: a mean is a sum over a count, F1 is made of three counts, MME adds the means of
its tasks. So it is enough to add up columns of numbers for each cluster once, and to draw clusters after that.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from taid_vlm_eval.metrics.aggregate import Estimate, interval_without_spread
from taid_vlm_eval.metrics.intervals import RESAMPLES, as_numbers

_CELLS = 250_000  # drawn indices held at a time: 2 MB, and as much for each step that is made of them


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        of_sums: sums of the columns, [R, K], to the figure of each of R draws, [R]; nan where it is not defined.
        counts: the columns whose sum is the number of items (or groups) behind the figure; it must not be 0 in the data.
        top: the largest value possible.
    """

    of_sums: Callable[[np.ndarray], np.ndarray]
    counts: tuple[int, ...]
    top: float = 1.0


def ratio(above: np.ndarray, below: np.ndarray, empty: float = float("nan")) -> np.ndarray:
    """``above / below`` of arrays of one shape, ``empty`` where ``below`` is 0."""
    return np.divide(above, below, out=np.full(np.shape(below), empty), where=below != 0)


def mean_of_ratios(sums_RK: np.ndarray, totals: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    """The mean of several means, [R, K] to [R]; in a draw without items of some of them, that of the others."""
    means_RC = ratio(sums_RK[:, list(totals)], sums_RK[:, list(counts)])
    return ratio(np.nansum(means_RC, axis=1), (~np.isnan(means_RC)).sum(axis=1))


def mean_figure(total: int, count: int) -> Figure:
    """The mean whose sum is in column ``total`` and whose number of items is in column ``count``."""
    return Figure(lambda sums_RK: ratio(sums_RK[:, total], sums_RK[:, count]), (count,))


def estimate_figures(
    figures: Mapping[str, Figure],
    columns_NK: np.ndarray,
    clusters: Sequence[Hashable] | np.ndarray,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Each figure with its percentile interval; whole clusters are drawn with replacement.

    Draws in which a figure is not defined (a category without items) do not count for it. Where no draw differs from
    another, the interval is Wilson's with the clusters behind the figure as trials.

    Args:
        columns_NK: what each item adds to each sum, [N, K].
        clusters: the group each item belongs to, [N].

    Raises:
        ValueError: no items, or unequal lengths.
    """
    if len(columns_NK) == 0 or len(columns_NK) != len(clusters):
        raise ValueError(f"need as many clusters as items and at least one, got {len(clusters)} and {len(columns_NK)}")
    cluster_of_item_N = as_numbers(clusters)
    sums_CK = np.zeros((int(cluster_of_item_N.max()) + 1, columns_NK.shape[1]))
    np.add.at(sums_CK, cluster_of_item_N, columns_NK)
    drawn_RK = _draw_sums(sums_CK, np.random.default_rng(seed), resamples)
    total_1K = sums_CK.sum(axis=0, keepdims=True)
    tail = (1 - level) / 2
    estimates = {}
    for name, figure in figures.items():
        value = float(figure.of_sums(total_1K)[0])
        all_R = figure.of_sums(drawn_RK)
        draws_R = all_R[~np.isnan(all_R)]
        low, high = np.quantile(draws_R, [tail, 1 - tail]).tolist() if draws_R.size else (value, value)
        behind = int((sums_CK[:, list(figure.counts)].sum(axis=1) > 0).sum())
        if high - low < 1e-9 * figure.top:
            low, high = (bound * figure.top for bound in interval_without_spread(value / figure.top, behind))
        estimates[name] = Estimate(value, low, high, top=figure.top, draws=all_R, behind=behind)
    return estimates


def _draw_sums(sums_CK: np.ndarray, generator: np.random.Generator, resamples: int) -> np.ndarray:
    """Sums of the columns in each draw, [R, K]."""
    clusters = len(sums_CK)
    parts = []
    at_once = max(1, _CELLS // clusters)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn_RC = generator.integers(0, clusters, size=(rows, clusters))
        places = drawn_RC + np.arange(rows)[:, None] * clusters
        times_RC = np.bincount(places.ravel(), minlength=rows * clusters).reshape(rows, clusters)
        parts.append(times_RC @ sums_CK)
    return np.concatenate(parts)


def with_named(primary: str, estimates: dict[str, Estimate]) -> Estimate:
    """The estimate called ``primary``, with all of them (itself too) as its named ones."""
    return replace(estimates[primary], named=estimates)
