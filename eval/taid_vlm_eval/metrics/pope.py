"""POPE's figures: does the model say that things are there which are not (Li et al., arXiv:2305.10355)?"""

from collections.abc import Sequence

import numpy as np

from taid_vlm_eval.arrays import Floats
from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored, clusters_of
from taid_vlm_eval.metrics.figures import Figure, estimate_figures, ratio, with_named

# What each item adds, for all items and then for each category.
_RIGHT, _COUNT, _YES_TRUE, _YES_FALSE, _MISSED = range(5)


def _subsets(one: Scored) -> list[str]:
    """VLMEvalKit writes a question that several subsets share once, with their names between commas."""
    found = one.facts.get("category")
    names = found.split(",") if isinstance(found, str) else [str(name) for name in found or ()]
    return sorted({name.strip() for name in names if name.strip()})


def _row(one: Scored) -> list[float]:
    truths = [one.truth] if isinstance(one.truth, str) else one.truth
    wanted = "yes" in {truth.strip().lower() for truth in truths}
    said = one.reading == "yes"
    # An answer that is neither yes nor no is wrong, and is no "yes".
    return [
        float(one.value == 1.0),
        1.0,
        float(said and wanted),
        float(said and not wanted),
        float(wanted and not said),
    ]


def _f1(sums_RK: Floats) -> Floats:
    hits = 2 * sums_RK[:, _YES_TRUE]
    # Without any "yes" in answers and truths there is nothing to find: 0.
    return ratio(hits, hits + sums_RK[:, _YES_FALSE] + sums_RK[:, _MISSED], empty=0.0)


def _figures_at(offset: int) -> dict[str, Figure]:
    def figure(above: tuple[int, ...], below: tuple[int, ...]) -> Figure:
        tops, bottoms = [offset + one for one in above], [offset + one for one in below]
        return Figure(
            lambda sums_RK: ratio(sums_RK[:, tops].sum(axis=1), sums_RK[:, bottoms].sum(axis=1), empty=0.0),
            (offset + _COUNT,),
        )

    return {
        "accuracy": figure((_RIGHT,), (_COUNT,)),
        "precision": figure((_YES_TRUE,), (_YES_TRUE, _YES_FALSE)),  # 0 without any "yes"
        "recall": figure((_YES_TRUE,), (_YES_TRUE, _MISSED)),
        "f1": Figure(lambda sums_RK: _f1(sums_RK[:, offset:]), (offset + _COUNT,)),
        "yes_ratio": figure((_YES_TRUE, _YES_FALSE), (_COUNT,)),
    }


@METRICS.register("pope")
def pope(scored: Sequence[Scored], seed: int) -> Estimate:
    """F1 of "yes", the mean over the subsets (adversarial, popular, random) where items have one in the fact ``category``.

    Named: ``mean_f1``, and ``accuracy``, ``precision``, ``recall``, ``f1`` and ``yes_ratio`` (the share of *answers* that are
    "yes") over all items and, as ``adversarial/f1`` and so on, for each subset. An item in several subsets counts in each.
    """
    subsets = [_subsets(one) for one in scored]
    names = sorted({name for found in subsets for name in found})
    columns_NK = np.zeros((len(scored), 5 * (1 + len(names))))
    for place, (one, found) in enumerate(zip(scored, subsets, strict=True)):
        row = np.array(_row(one))
        columns_NK[place, :5] = row * max(1, len(found))
        for name in found:
            offset = 5 * (1 + names.index(name))
            columns_NK[place, offset : offset + 5] = row
    figures = _figures_at(0)
    for number, name in enumerate(names, start=1):
        figures |= {f"{name}/{kind}": figure for kind, figure in _figures_at(5 * number).items()}
    offsets = [5 * number for number in range(1, 1 + len(names))] or [0]

    def mean_f1(sums_RK: Floats) -> Floats:
        mean_R: Floats = np.mean([_f1(sums_RK[:, offset:]) for offset in offsets], axis=0)
        return mean_R

    figures["mean_f1"] = Figure(mean_f1, (_COUNT,))
    clusters = clusters_of(scored)
    return with_named("mean_f1", estimate_figures(figures, columns_NK.T, clusters, seed=seed))
