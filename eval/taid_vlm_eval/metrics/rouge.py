"""ROUGE-L: F-measure of the longest common subsequence of words.

Chin-Yew Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, section 3.1, with beta = 1.
Words are runs of [a-z0-9] after lower-casing, as in the ``rouge_score`` package. Text without Latin letters or digits (Japanese,
say) therefore has no words and scores 0: do not use this on such text. In the mode ``stemmed``, words of more than three letters
are compared by their stems, as that package does with its stemmer.
"""

import re
from collections.abc import Sequence

from taid_vlm_eval.metrics.porter import stem
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode

MODES = ("plain", "stemmed")
_WORD = re.compile(r"[a-z0-9]+")


def words(text: str, mode: str = "plain") -> list[str]:
    """The words that ROUGE compares."""
    found = _WORD.findall(text.lower())
    return [stem(word) if len(word) > 3 else word for word in found] if mode == "stemmed" else found


def lcs_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    Bit-parallel (Hyyrö, "Bit-Parallel LCS-length Computation Revisited", 2004): one big-integer step per word of
    ``second`` in place of a row of a table, so that answers of thousands of words stay quick.
    """
    positions: dict[str, int] = {}
    for index, word in enumerate(first):
        positions[word] = positions.get(word, 0) | (1 << index)
    full = (1 << len(first)) - 1
    row = full  # a zero bit marks a place where the subsequence grows
    for word in second:
        hits = row & positions.get(word, 0)
        row = ((row + hits) | (row - hits)) & full
    return len(first) - bin(row).count("1")


def rouge_l(answer: str, truth: str | Sequence[str], *, mode: str = "plain") -> float:
    """ROUGE-L F-measure in [0, 1]; the best one when several references are given.

    Raises:
        UserError: unknown mode.
    """
    require_mode(mode, MODES)
    if not isinstance(truth, str):
        return max((rouge_l(answer, one, mode=mode) for one in truth), default=0.0)
    given, wanted = words(answer, mode), words(truth, mode)
    common = lcs_length(wanted, given)
    if common == 0:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _score(answer: str, truth: Truth, *, mode: str = "plain") -> Score:
    return Score(rouge_l(answer, truth, mode=mode), "words" if words(answer) else "empty")


SCORERS.register("rouge_l")(Scorer(_score, readings=("words", "empty"), closed=False, modes=MODES))
