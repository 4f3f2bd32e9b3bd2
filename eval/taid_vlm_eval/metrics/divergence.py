"""How far a model is from a teacher along given answers, per token: what the way of asking ``divergence`` measured, put together.

Figures are sums over tokens, divided by the tokens of all items, so long answers count for more; whole clusters are drawn for
the intervals.
"""

import json
import math
from collections.abc import Sequence

import numpy as np

from taid_vlm.common.errors import UserError
from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored, clusters_of
from taid_vlm_eval.metrics.figures import Figure, estimate_figures, ratio, with_named
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth

SUMS = ("kl", "reverse_kl", "agreement", "cross_entropy", "teacher_cross_entropy")
# A divergence has no largest value. This one stands in where an interval is made without any spread to see.
TOP = 10.0


def read_sums(answer: str) -> dict[str, float] | None:
    """``tokens`` and the sums of an item; None when the answer is none."""
    try:
        found = {name: float(value) for name, value in json.loads(answer).items()}
    except (ValueError, TypeError, AttributeError):
        return None
    sound = set(found) == {"tokens", *SUMS} and all(map(math.isfinite, found.values())) and found["tokens"] > 0
    return found if sound else None


def _score(answer: str, truth: Truth) -> Score:
    found = read_sums(answer)
    if found is None:
        return Score(0.0, "none" if answer.strip() else "empty")
    return Score(found["agreement"] / found["tokens"], "measured")


SCORERS.register("divergence")(Scorer(_score, ("measured", "none", "empty"), closed=False, unparsed=("none", "empty")))


@METRICS.register("divergence")
def divergence(scored: Sequence[Scored], seed: int) -> Estimate:
    """KL(teacher || model) in nats for each token of the answers; items that were not measured have no tokens and do not count.

    Named: ``kl``, ``reverse_kl`` (KL(model || teacher)), ``agreement`` (the share of tokens at which both have the same likeliest
    token), and the cross-entropies of both to the answers.

    Raises:
        UserError: no item was measured.
    """
    rows = [read_sums(one.answer) or {} for one in scored]
    columns_NK = np.array([[row.get(name, 0.0) for name in ("tokens", *SUMS)] for row in rows])
    if columns_NK[:, 0].sum() == 0:
        raise UserError("no item could be measured; the answers file says why of each")
    tops = {"agreement": 1.0}
    figures = {name: _per_token(place + 1, tops.get(name, TOP)) for place, name in enumerate(SUMS)}
    return with_named("kl", estimate_figures(figures, columns_NK.T, clusters_of(scored), seed=seed))


def _per_token(column: int, top: float) -> Figure:
    return Figure(lambda sums_RK: ratio(sums_RK[:, column], sums_RK[:, 0]), (0,), top)
