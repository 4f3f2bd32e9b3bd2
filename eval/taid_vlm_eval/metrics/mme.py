"""MME's points: accuracy and accuracy+ of each task, added up (Fu et al., arXiv:2306.13394)."""

from collections.abc import Callable, Sequence

import numpy as np

from taid_vlm_eval.arrays import Floats
from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored, clusters_of
from taid_vlm_eval.metrics.categories import categories_of, category_columns
from taid_vlm_eval.metrics.figures import Figure, estimate_figures, mean_figure, mean_of_ratios, with_named
from taid_vlm_eval.metrics.groups import group_columns, join_clusters
from taid_vlm_eval.metrics.sorting import Sorted

# 2000 and 800 points
PERCEPTION = ("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


def _points_of(tasks: Sequence[int]) -> Callable[[Floats], Floats]:
    """100 times accuracy + accuracy+, summed over tasks; task t has its four columns from 4 t on."""

    def points(sums_RK: Floats) -> Floats:
        accuracy_R = mean_of_ratios(sums_RK, [4 * task for task in tasks], [4 * task + 1 for task in tasks])
        plus_R = mean_of_ratios(sums_RK, [4 * task + 2 for task in tasks], [4 * task + 3 for task in tasks])
        points_R: Floats = 100 * len(tasks) * (accuracy_R + plus_R)
        return points_R

    return points


@METRICS.register("mme")
def mme(scored: Sequence[Scored], seed: int) -> Estimate:
    """The sum over tasks (fact ``category``) of accuracy and accuracy+, times 100.

    Accuracy+ counts an image as right when all its questions are; the image is the fact ``group``, else the cluster. Named:
    ``total``, ``perception`` and ``cognition`` where their tasks are there, and for each task ``<task>/accuracy``,
    ``<task>/accuracy+`` and ``<task>/points`` (at most 200). Items without a category form one task, "all".
    """
    found = categories_of(scored)
    found = found if found.names else Sorted(["all"] * len(scored), len(scored))
    images = [one.facts.get("group", one.cluster) for one in scored]
    tasks = [one.facts.get("category") for one in scored]
    # One picture may serve two tasks: its questions are pairs within each.
    pairs = list(zip(tasks, images, strict=True))
    values_N = np.array([one.value for one in scored])
    both_N, pair_N = group_columns(values_N.tolist(), pairs)
    columns, figures = category_columns(found, values_N, np.ones(len(scored)), both_N, pair_N), {}
    for number, name in enumerate(found.names):
        first = 4 * number
        figures[f"{name}/accuracy"] = mean_figure(first, first + 1)
        figures[f"{name}/accuracy+"] = mean_figure(first + 2, first + 3)
        figures[f"{name}/points"] = Figure(_points_of([number]), (first + 1,), top=200.0)
    sums = {"perception": PERCEPTION, "cognition": COGNITION, "total": found.names}
    for name, members in sums.items():
        places = [number for number, task in enumerate(found.names) if task in members]
        if places:
            counts = tuple(4 * place + 1 for place in places)
            figures[name] = Figure(_points_of(places), counts, top=200.0 * len(places))
    clusters = join_clusters(clusters_of(scored), pairs)
    return with_named("total", estimate_figures(figures, columns, clusters, seed=seed))
