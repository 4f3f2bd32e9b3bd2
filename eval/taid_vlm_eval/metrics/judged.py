"""What a judge's reply says, and the figures of MM-Vet and MT-Bench, which only a model that reads the answers can score.

There is no honest exact match for them, so no scorer here: without a judge such a task is not run.
"""

import re
from collections.abc import Sequence

import numpy as np

from taid_vlm.common.errors import UserError
from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored, clusters_of
from taid_vlm_eval.metrics.figures import estimate_figures, mean_figure, with_named

_GRADE = re.compile(r"(?<![\d.])(?:0(?:\.\d+)?|1(?:\.0+)?)(?![\d.]*\d)", re.ASCII)
_RATING = re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]", re.ASCII)
_RATING_IN_ONE = re.compile(r"\[(\d+(?:\.\d+)?)\]", re.ASCII)


class NothingReadError(UserError):
    """No reply of a judge could be read, so there is no figure."""


def mm_vet_grade(reply: str) -> float | None:
    """The grade from 0.0 to 1.0 that a judge of MM-Vet gave (Yu et al., arXiv:2308.02490), None when there is none.

    The judge completes the last cell of a table. Should it write more, there must be only one number in range: of several, nobody
    knows which is the grade.
    """
    found = set(map(float, _GRADE.findall(reply)))
    return found.pop() if len(found) == 1 else None


def mt_bench_rating(reply: str) -> float | None:
    """The rating in "[[n]]", else in "[n]" (Zheng et al., arXiv:2306.05685), None when there is none or it is not 1 to 10.

    FastChat writes -1 for none, and leaves those out of the mean; so does the metric here, and results count them.
    """
    found = _RATING.search(reply) or _RATING_IN_ONE.search(reply)
    rating = float(found[1]) if found else 0.0
    return rating if 1 <= rating <= 10 else None


@METRICS.register("mm_vet")
def mm_vet(scored: Sequence[Scored], seed: int) -> Estimate:
    """The mean grade, from 0 to 1, named ``all``, and that of each ability over the items that need it, among others or alone.

    Items have the fact ``category``: their abilities, with commas between them.
    """
    abilities = [{name.strip() for name in str(one.facts.get("category", "")).split(",")} - {""} for one in scored]
    groups = {name: [name in own for own in abilities] for name in sorted(set().union(*abilities))}
    return _means(scored, seed, [(one.value, 1) for one in scored], groups, 1.0)


@METRICS.register("mt_bench")
def mt_bench(scored: Sequence[Scored], seed: int) -> Estimate:
    """The mean rating, from 1 to 10, named ``all``, over all turns that have one; and of each turn and category.

    Ratings are the fact ``grades`` of an item, one for each turn, None where there is none.

    Raises:
        NothingReadError: no turn has a rating.
    """
    grades = [list(one.facts.get("grades", ())) for one in scored]
    turns = max(map(len, grades), default=0)
    flat, owners = [], []
    for place, own in enumerate(grades):
        for turn, grade in enumerate(own):
            flat.append((0.0 if grade is None else grade, int(grade is not None)))
            owners.append((place, turn))
    if not any(count for _, count in flat):
        raise NothingReadError("none of the judge's replies holds a rating, so there is no figure; ask another judge")
    rows = [scored[place] for place, _ in owners]
    groups = {f"turn {turn + 1}": [one == turn for _, one in owners] for turn in range(turns)}
    categories = [str(one.facts.get("category", "")) for one in rows]
    groups |= {name: [one == name for one in categories] for name in sorted(set(categories) - {""})}
    return _means(rows, seed, flat, groups, 10.0)


def _means(
    rows: Sequence[Scored], seed: int, sums: Sequence[tuple[float, int]], groups: dict[str, list[bool]], top: float
) -> Estimate:
    """Means over all rows and over groups of them; a row adds a number and how often it counts."""
    columns = [np.array(sums, dtype=float)]
    columns += [columns[0] * np.array(members, dtype=float)[:, None] for members in groups.values()]
    figures = {}
    for place, name in enumerate(("all", *groups)):
        if columns[place][:, 1].any():
            figure = mean_figure(2 * place, 2 * place + 1)
            figures[name] = type(figure)(figure.of_sums, figure.counts, top)
    clusters = clusters_of(rows)
    return with_named("all", estimate_figures(figures, np.concatenate(columns, axis=1).T, clusters, seed=seed))
