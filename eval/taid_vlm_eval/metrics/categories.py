"""Means by category, and the metric of rotated questions."""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from taid_vlm_eval.arrays import Floats, Integers
from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored, clusters_of
from taid_vlm_eval.metrics.figures import Figure, estimate_figures, mean_figure, mean_of_ratios, with_named
from taid_vlm_eval.metrics.groups import group_columns, join_clusters
from taid_vlm_eval.metrics.sorting import Sorted


def category_of(one: Scored, key: str = "category") -> str | None:
    """The category of an item as text, None without one."""
    found = one.facts.get(key)
    return None if found is None else str(found)


def categories_of(scored: Sequence[Scored], key: str = "category") -> Sorted:
    """The category of each item, and the names of all categories in the order of the alphabet."""
    return Sorted((category_of(one, key) for one in scored), len(scored))


def category_columns(categories: Sorted, *columns: Floats) -> Iterator[Floats]:
    """Category by category, each of the columns, [N], with 0 for the items of other categories; made one at a time."""
    for name in categories.names:
        mask_N = categories.mask(name)
        yield from (column_N * mask_N for column_N in columns)


def _by_category(
    scored: Sequence[Scored], right_N: Floats, count_N: Floats, clusters: Sequence[int] | Integers, seed: int
) -> dict[str, Estimate]:
    figures, found = {"overall": mean_figure(0, 1)}, categories_of(scored)
    # A group counts for the category of its first item, so a category may have no group.
    shown = [place for place, name in enumerate(found.names, start=1) if (count_N * found.mask(name)).any()]
    for place in shown:
        figures[f"category/{found.names[place - 1]}"] = mean_figure(2 * place, 2 * place + 1)
    totals, counts = [2 * place for place in shown], [2 * place + 1 for place in shown]
    if shown:
        figures["mean_of_categories"] = Figure(lambda sums_RK: mean_of_ratios(sums_RK, totals, counts), tuple(counts))
    columns = chain([right_N, count_N], category_columns(found, right_N, count_N))
    return estimate_figures(figures, columns, clusters, seed=seed)


def _values(scored: Sequence[Scored]) -> Floats:
    return np.fromiter((one.value for one in scored), dtype=np.float64, count=len(scored))


@METRICS.register("accuracy_by_category")
def accuracy_by_category(scored: Sequence[Scored], seed: int) -> Estimate:
    """Mean over items; named: ``overall``, the mean of each ``category/...``, and the mean of these means."""
    clusters = clusters_of(scored)
    return with_named("overall", _by_category(scored, _values(scored), np.ones(len(scored)), clusters, seed))


@METRICS.register("mean_of_categories")
def mean_of_categories(scored: Sequence[Scored], seed: int) -> Estimate:
    """The same figures, but the mean of the categories' means comes first (BLINK's authors; MMStar in lmms-eval)."""
    clusters = clusters_of(scored)
    named = _by_category(scored, _values(scored), np.ones(len(scored)), clusters, seed)
    return with_named("mean_of_categories" if "mean_of_categories" in named else "overall", named)


@METRICS.register("circular")
def circular(scored: Sequence[Scored], seed: int) -> Estimate:
    """MMBench's circular accuracy: a question counts as right when it is right in every rotation of its options.

    Items of one question share the fact ``group``. Named: ``overall``, ``category/...``, and ``rotations``, the plain mean
    over items, which is what a run without rotations would say. Liu et al., arXiv:2307.06281.
    """
    groups = [one.facts.get("group", one.id) for one in scored]
    clusters = join_clusters(clusters_of(scored), groups)
    right_N, count_N = group_columns([one.value for one in scored], groups)
    named = _by_category(scored, right_N, count_N, clusters, seed)
    plain = [_values(scored), np.ones(len(scored))]
    named |= estimate_figures({"rotations": mean_figure(0, 1)}, plain, clusters, seed=seed)
    return with_named("overall", named)
