"""Captions of COCO and Flickr30k: CIDEr, BLEU and ROUGE-L on our Treebank-like words.

METEOR and SPICE are left out: they need Java programs and tables of tens of megabytes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from taid_vlm_eval.arrays import Floats
from taid_vlm_eval.metrics.aggregate import METRICS, Estimate, Scored, clusters_of
from taid_vlm_eval.metrics.bleu import COLUMNS, bleu_columns, bleu_of_sums
from taid_vlm_eval.metrics.caption_words import caption_words
from taid_vlm_eval.metrics.cider import LENGTHS, cider_scores
from taid_vlm_eval.metrics.figures import Figure, estimate_figures, ratio, with_named
from taid_vlm_eval.metrics.rouge import lcs_length
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, truths_of

_BETA = 1.2


def caption_rouge_l(answer: str, truth: Truth) -> float:
    """ROUGE-L as COCO's evaluation computes it, in [0, 1].

    Not that of :func:`rouge_l`: the best precision and the best recall may come from different references, and recall weighs more
    (beta = 1.2).
    """
    given = caption_words(answer)
    wanted = [words for one in truths_of(truth) if (words := caption_words(one))]
    if not given or not wanted:
        return 0.0
    common = [lcs_length(words, given) for words in wanted]
    precision = max(common) / len(given)
    recall = max(length / len(words) for length, words in zip(common, wanted, strict=True))
    if precision == 0:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _score(answer: str, truth: Truth) -> Score:
    words = caption_words(answer)
    return Score(caption_rouge_l(answer, truth), "words" if words else "empty", " ".join(words) or None)


SCORERS.register("caption")(Scorer(_score, readings=("words", "empty"), closed=False))


@METRICS.register("captions")
def captions(scored: Sequence[Scored], seed: int) -> Estimate:
    """CIDEr (0 to 10, so 1.2 is what papers print as 120); named: ``CIDEr``, ``BLEU-1`` to ``BLEU-4``, ``ROUGE-L``.

    One item is one image with all its references. Intervals draw images; how rare an n-gram is stays that of the whole set.
    """
    answers = [caption_words(one.answer) for one in scored]
    references = [[caption_words(text) for text in truths_of(one.truth)] for one in scored]
    columns_NK = np.zeros((len(scored), COLUMNS + 3))
    for place, (answer, texts) in enumerate(zip(answers, references, strict=True)):
        columns_NK[place, :COLUMNS] = bleu_columns(answer, texts)
    columns_NK[:, COLUMNS] = 1.0
    columns_NK[:, COLUMNS + 1] = cider_scores(answers, references)
    columns_NK[:, COLUMNS + 2] = [caption_rouge_l(one.answer, one.truth) for one in scored]

    def mean_of(column: int, top: float) -> Figure:
        return Figure(lambda sums_RK: ratio(sums_RK[:, column], sums_RK[:, COLUMNS]), (COLUMNS,), top)

    figures = {"CIDEr": mean_of(COLUMNS + 1, 10.0), "ROUGE-L": mean_of(COLUMNS + 2, 1.0)}
    for longest in range(1, LENGTHS + 1):
        figures[f"BLEU-{longest}"] = Figure(_bleu_up_to(longest), (COLUMNS,))
    clusters = clusters_of(scored)
    return with_named("CIDEr", estimate_figures(figures, columns_NK.T, clusters, seed=seed))


def _bleu_up_to(longest: int) -> Callable[[Floats], Floats]:
    return lambda sums_RK: bleu_of_sums(sums_RK, longest)
