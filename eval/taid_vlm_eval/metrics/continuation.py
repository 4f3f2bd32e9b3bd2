"""Whether the text that a model would write next is the true one, and how likely it found that: LAMBADA.

The numbers come from the model, by the way of asking ``continuation``; what is made of them is decided here. Names are those of
lm-evaluation-harness.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from taid_vlm_eval.arrays import Floats
from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored, clusters_of
from taid_vlm_eval.metrics.figures import Figure, estimate_figures, mean_figure, ratio, with_named
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth

# A perplexity has no largest value. This one bounds the interval where there is no spread to make one of.
TOP = 10_000.0
_IMPOSSIBLE = 1e9  # stands in for larger ones, whose sum no float may hold
_LARGEST_EXPONENT = 700.0  # of e; what a float holds ends at 709


@dataclass(frozen=True)
class Continued:
    """``log_likelihood`` of a whole text (natural logarithm), and whether it is what greedy decoding writes."""

    log_likelihood: float
    greedy: bool


def read_continuation(answer: str) -> Continued | None:
    """What an answer of the way of asking ``continuation`` says; None when it is none."""
    try:
        found = json.loads(answer)
        value, greedy = found["log_likelihood"], found["greedy"]
    except (ValueError, KeyError, TypeError):
        return None
    sound = isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
    return Continued(float(value), greedy) if sound and isinstance(greedy, bool) else None


def _score(answer: str, truth: Truth) -> Score:
    found = read_continuation(answer)
    if found is None:
        return Score(0.0, "none" if answer.strip() else "empty")
    return Score(float(found.greedy), "likelihood")


SCORERS.register("continuation")(
    Scorer(_score, ("likelihood", "none", "empty"), closed=False, unparsed=("none", "empty"))
)


@METRICS.register("continuation")
def continuation(scored: Sequence[Scored], seed: int) -> Estimate:
    """The share of items whose true text is what greedy decoding writes; ``acc`` and ``perplexity`` are named.

    The perplexity is e to the mean negative log-likelihood of the items, each counted once however many tokens it has. Items that
    were not measured are wrong, and have no part in it.
    """
    found = [read_continuation(one.answer) for one in scored]
    columns_NK = np.array(
        [
            [one.value, 1.0, min(-got.log_likelihood, _IMPOSSIBLE) if got else 0.0, float(got is not None)]
            for one, got in zip(scored, found, strict=True)
        ]
    )
    figures = {"acc": mean_figure(0, 1)}
    if columns_NK[:, 3].any():
        figures["perplexity"] = Figure(_perplexity, (3,), TOP)
    estimates = estimate_figures(figures, columns_NK.T, clusters_of(scored), seed=seed)
    if "perplexity" in estimates:
        estimates["perplexity"] = _bounded(estimates["perplexity"])
    return with_named("acc", estimates)


def _perplexity(sums_RK: Floats) -> Floats:
    perplexity_R: Floats = np.exp(np.minimum(ratio(sums_RK[:, 2], sums_RK[:, 3]), _LARGEST_EXPONENT))
    return perplexity_R


def _bounded(one: Estimate) -> Estimate:
    """Where no draw differs from another, anything is possible: from 1, the least, to the largest that is told."""
    assert one.draws is not None
    draws_R = one.draws[~np.isnan(one.draws)]
    if draws_R.size and np.ptp(draws_R) > 1e-9 * one.value:
        low, high = np.quantile(draws_R, [0.025, 0.975]).tolist()
        return replace(one, low=low, high=high)
    return replace(one, low=1.0, high=max(TOP, one.value))
