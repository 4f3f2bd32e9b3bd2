"""HallusionBench's three accuracies and their mean (Guan et al., arXiv:2310.14566)."""

from collections.abc import Sequence

import numpy as np

from taid_vlm_eval.arrays import Floats
from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored, clusters_of
from taid_vlm_eval.metrics.figures import Figure, estimate_figures, mean_figure, ratio, with_named
from taid_vlm_eval.metrics.groups import group_columns, join_clusters


def _key(one: Scored, last: str) -> tuple[str, ...]:
    return tuple(str(one.facts.get(name, "")) for name in ("category", "subcategory", "set_id", last))


def _has_figure(one: Scored) -> bool:
    """Figure 0 of a "VS" question is the question without any picture."""
    return not (str(one.facts.get("category")) == "VS" and str(one.facts.get("figure_id")) == "0")


@METRICS.register("hallusion_bench")
def hallusion_bench(scored: Sequence[Scored], seed: int) -> Estimate:
    """The mean of aAcc, fAcc and qAcc; all four are always named, for one unnamed number has been three things in print.

    - ``aAcc``: over questions.
    - ``fAcc``: over figures; a figure is right when all its questions are. Questions without a picture belong to none.
    - ``qAcc``: over questions as asked of all figures of a set; right when all these answers are.
    - ``mean``: of the three.

    Items have the facts ``category``, ``subcategory``, ``set_id``, ``figure_id`` and ``question_id``. All figures of a set fall or
    stand together in the intervals, since qAcc compares them.
    """
    values = [one.value for one in scored]
    figure_keys = [_key(one, "figure_id") if _has_figure(one) else None for one in scored]
    question_keys = [_key(one, "question_id") for one in scored]
    columns = [np.array(values), np.ones(len(values))]
    columns += [*group_columns(values, figure_keys), *group_columns(values, question_keys)]
    figures = {"aAcc": mean_figure(0, 1), "qAcc": mean_figure(4, 5)}
    if columns[3].any():
        figures["fAcc"] = mean_figure(2, 3)
        figures["mean"] = Figure(_mean_of_three, (1,))
    clusters = join_clusters(clusters_of(scored), figure_keys, question_keys)
    named = estimate_figures(figures, columns, clusters, seed=seed)
    return with_named("mean" if "mean" in named else "aAcc", named)


def _mean_of_three(sums_RK: Floats) -> Floats:
    mean_R: Floats = np.mean([ratio(sums_RK[:, place], sums_RK[:, place + 1]) for place in (0, 2, 4)], axis=0)
    return mean_R
