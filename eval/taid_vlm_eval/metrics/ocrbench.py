"""OCRBench: a right text stands somewhere in the answer (Liu et al., arXiv:2305.07895).

Case does not count; for handwritten formulas (``dataset`` is "HME100k") white space does not count, but case does. Modes:

- ``official``: as said.
- ``lmms``: full-width ASCII is folded to ASCII first, as lmms-eval does since July 2026, except in formulas.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored, clusters_of
from taid_vlm_eval.metrics.categories import categories_of, category_columns
from taid_vlm_eval.metrics.figures import Figure, estimate_figures, mean_figure, ratio, with_named
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode, truths_of

MODES = ("official", "lmms")
FORMULAS = "HME100k"
_FOLDED = {0x3000: 0x20} | {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}


def ocrbench(answer: str, truth: Truth, *, dataset: str = "", mode: str = "official") -> float:
    """1.0 when one of the right texts stands in the answer, else 0.0.

    Raises:
        UserError: unknown mode.
    """
    return _score(answer, truth, dataset=dataset, mode=mode).value


def _score(answer: str, truth: Truth, *, dataset: str = "", mode: str = "official") -> Score:
    require_mode(mode, MODES)
    if not answer.strip():
        return Score(0.0, "empty")

    def plain(text: str) -> str:
        if dataset == FORMULAS:
            return text.strip().replace("\n", " ").replace(" ", "")
        folded = text.translate(_FOLDED) if mode == "lmms" else text
        return folded.lower().strip().replace("\n", " ")

    given = plain(answer)
    # Nothing stands in every text; it is no answer to find.
    found = any(wanted in given for one in truths_of(truth) if (wanted := plain(one)))
    return Score(float(found), "text", given)


SCORERS.register("ocrbench")(Scorer(_score, readings=("text", "empty"), closed=False, takes=("dataset",), modes=MODES))


@METRICS.register("ocrbench")
def ocrbench_points(scored: Sequence[Scored], seed: int) -> Estimate:
    """Points: how many answers hold their text (1000 questions in the benchmark; leaderboards show a tenth).

    Named: ``points``, ``accuracy``, and the points of each ``type/...`` (the fact ``category``).
    """
    values_N = np.array([one.value for one in scored])
    ones_N, found = np.ones(len(scored)), categories_of(scored)
    counts = {"points": (0, 1, len(scored))}
    for place, name in enumerate(found.names, start=1):
        counts[f"type/{name}"] = (2 * place, 2 * place + 1, int(found.mask(name).sum()))
    columns = chain([values_N, ones_N], category_columns(found, values_N, ones_N))
    figures = {name: _points(*places) for name, places in counts.items()} | {"accuracy": mean_figure(0, 1)}
    clusters = clusters_of(scored)
    return with_named("points", estimate_figures(figures, columns, clusters, seed=seed))


def _points(total: int, count: int, items: int) -> Figure:
    """The number of questions is fixed; what varies from draw to draw is the share."""
    return Figure(lambda sums_RK: items * ratio(sums_RK[:, total], sums_RK[:, count]), (count,), top=float(items))
