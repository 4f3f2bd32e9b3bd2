"""BLEU of a set of captions, as COCO's evaluation computes it (Papineni et al., ACL 2002)."""

from collections.abc import Sequence

import numpy as np

from taid_vlm_eval.arrays import Floats
from taid_vlm_eval.metrics.cider import LENGTHS, ngrams

COLUMNS = 2 * LENGTHS + 2  # matches of each length, n-grams of each length, words of the answer, words of the reference


def bleu_columns(answer: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """What one caption adds to the counts that BLEU is made of, [10].

    An n-gram matches as often as it stands in the reference that has most of it. The reference length is the one closest to
    the answer's; of two equally close, the shorter.
    """
    counted = [ngrams(reference) for reference in references]
    given = ngrams(answer)
    matches = [
        sum(min(times, max((one[length][gram] for one in counted), default=0)) for gram, times in given[length].items())
        for length in range(LENGTHS)
    ]
    totals = [max(0, len(answer) - length) for length in range(LENGTHS)]
    closest = min((len(one) for one in references), key=lambda size: (abs(size - len(answer)), size), default=0)
    return [float(number) for number in (*matches, *totals, len(answer), closest)]


def bleu_of_sums(sums_RK: Floats, longest: int = LENGTHS) -> Floats:
    """BLEU up to n-grams of ``longest`` words from sums of :func:`bleu_columns`, [R, 10] to [R].

    The geometric mean of the precisions, times exp(1 - reference / answer) where the answers are shorter.
    """
    matches, totals = sums_RK[:, :longest], sums_RK[:, LENGTHS : LENGTHS + longest]
    # COCO's tiny summands, which decide when something is 0.
    precision = np.prod((matches + 1e-15) / (totals + 1e-9), axis=1) ** (1 / longest)
    share = (sums_RK[:, 2 * LENGTHS] + 1e-15) / (sums_RK[:, 2 * LENGTHS + 1] + 1e-9)
    # An empty answer: exp of minus very much is 0.
    bleu_R: Floats = precision * np.exp(np.minimum(0.0, 1 - 1 / share))
    return bleu_R
