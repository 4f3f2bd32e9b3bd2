"""Which option a language model finds likeliest: MMLU, ARC, HellaSwag, and letters by one forward pass.

Log-likelihoods come from the model; what is made of them is decided here. Names are those of lm-evaluation-harness.
"""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Literal

import numpy as np

from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored, clusters_of
from taid_vlm_eval.metrics.categories import categories_of, category_columns
from taid_vlm_eval.metrics.figures import estimate_figures, mean_figure, with_named
from taid_vlm_eval.metrics.letters import Options, option_table
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode, truths_of

Norm = Literal["none", "characters", "bytes"]
_NORMS: dict[str, Norm] = {"acc_norm": "characters", "acc": "none", "acc_bytes": "bytes"}
MODES = tuple(_NORMS)


def likeliest(loglikelihoods: Sequence[float], texts: Sequence[str] | None = None, *, norm: Norm = "none") -> int:
    """The place of the likeliest option; of equal ones the first.

    Args:
        loglikelihoods: of each option, summed over its tokens.
        texts: of the options, when lengths count.
        norm: divide by nothing (``acc``), by the characters (``acc_norm``) or by the UTF-8 bytes (``acc_bytes``) of the option.

    Raises:
        ValueError: no options, unequal lengths, or a likelihood that is not a number.
    """
    values = np.asarray(loglikelihoods, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or np.isnan(values).any():
        raise ValueError(f"need one log-likelihood for each option and at least one, got {list(loglikelihoods)}")
    if norm != "none":
        if texts is None or len(texts) != values.size:
            raise ValueError(f"norm {norm!r} needs the text of each of the {values.size} options")
        lengths = [len(text) if norm == "characters" else len(text.encode()) for text in texts]
        values = values / np.maximum(lengths, 1)
    return int(np.argmax(values))


def read_likelihoods(answer: str) -> list[float] | None:
    """The log-likelihoods of options in an answer that the way of asking ``options`` wrote; None when it is none."""
    try:
        values = json.loads(answer)["log_likelihoods"]
    except (ValueError, KeyError, TypeError):
        return None
    sound = isinstance(values, list) and values and all(isinstance(one, float | int) for one in values)
    return [float(one) for one in values] if sound else None


def _score(answer: str, truth: Truth, *, options: Options | None = None, mode: str = "acc_norm") -> Score:
    require_mode(mode, MODES)
    if not answer.strip():
        return Score(0.0, "empty")
    values, table = read_likelihoods(answer), option_table(options)
    if values is None or len(values) != len(table):
        return Score(0.0, "none")
    letter = list(table)[likeliest(values, list(table.values()), norm=_NORMS[mode])]
    return Score(float(letter in truths_of(truth)), "likelihood", letter)


SCORERS.register("likelihood")(
    Scorer(
        _score,
        ("likelihood", "none", "empty"),
        closed=False,
        takes=("options",),
        modes=MODES,
        unparsed=("none", "empty"),
    )
)


def _all_modes(scored: Sequence[Scored], seed: int, first_mode: str) -> dict[str, Estimate]:
    """The share that is right in each mode, and in each category in one mode."""
    columns = [
        [_score(one.answer, one.truth, options=one.facts.get("options"), mode=mode).value for mode in MODES]
        for one in scored
    ]
    columns_KN, ones_N = np.array(columns).T, np.ones(len(scored))
    figures = {mode: mean_figure(place, len(MODES)) for place, mode in enumerate(MODES)}
    found = categories_of(scored)
    for place, name in enumerate(found.names):
        first = len(MODES) + 1 + 2 * place
        figures[f"category/{name}"] = mean_figure(first, first + 1)
    by_category = category_columns(found, columns_KN[MODES.index(first_mode)], ones_N)
    return estimate_figures(figures, chain(columns_KN, [ones_N], by_category), clusters_of(scored), seed=seed)


@METRICS.register("acc")
def acc(scored: Sequence[Scored], seed: int) -> Estimate:
    """The share of items whose likeliest option is right; named: it, ``acc_norm``, ``acc_bytes``, and each ``category/...``."""
    return with_named("acc", _all_modes(scored, seed, "acc"))


@METRICS.register("acc_norm")
def acc_norm(scored: Sequence[Scored], seed: int) -> Estimate:
    """As :func:`acc`, with the log-likelihoods divided by the options' characters."""
    return with_named("acc_norm", _all_modes(scored, seed, "acc_norm"))
