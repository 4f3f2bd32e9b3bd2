"""Means by category, and the metric of rotated questions."""

from collections.abc import Sequence

import numpy as np

from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored, clusters_of
from taid_vlm_eval.metrics.figures import Figure, estimate_figures, mean_figure, mean_of_ratios, with_named
from taid_vlm_eval.metrics.groups import group_columns, join_clusters


def category_of(one: Scored, key: str = "category") -> str | None:
    """The category of an item as text, None without one."""
    found = one.facts.get(key)
    return None if found is None else str(found)


def category_masks(scored: Sequence[Scored], key: str = "category") -> dict[str, np.ndarray]:
    """For each category in the order of the alphabet, which items belong to it, [N]; no entry for items without one."""
    names_N = [category_of(one, key) for one in scored]
    return {
        name: np.array([one == name for one in names_N], dtype=float)
        for name in sorted({name for name in names_N if name is not None})
    }


def _by_category(
    scored: Sequence[Scored], right_N: np.ndarray, count_N: np.ndarray, clusters: Sequence[int] | np.ndarray, seed: int
) -> dict[str, Estimate]:
    columns, figures = [right_N, count_N], {"overall": mean_figure(0, 1)}
    # A group counts for the category of its first item.
    masks = {name: mask_N for name, mask_N in category_masks(scored).items() if (count_N * mask_N).any()}
    for name, mask_N in masks.items():
        figures[f"category/{name}"] = mean_figure(len(columns), len(columns) + 1)
        columns += [right_N * mask_N, count_N * mask_N]
    totals, counts = list(range(2, len(columns), 2)), list(range(3, len(columns), 2))
    if masks:
        figures["mean_of_categories"] = Figure(lambda sums_RK: mean_of_ratios(sums_RK, totals, counts), tuple(counts))
    return estimate_figures(figures, np.stack(columns, axis=1), clusters, seed=seed)


def _values(scored: Sequence[Scored]) -> np.ndarray:
    return np.array([one.value for one in scored])


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
    plain = np.stack([_values(scored), np.ones(len(scored))], axis=1)
    named |= estimate_figures({"rotations": mean_figure(0, 1)}, plain, clusters, seed=seed)
    return with_named("overall", named)
