"""ANLS, the metric of DocVQA and InfographicVQA.

Average normalised Levenshtein similarity: Biten et al., "Scene Text Visual Question Answering", arXiv:1905.13648. An answer gets
1 - distance / length for the closest of the right ones, and 0 when that is below a threshold of one half.

Modes, which differ in what is exactly one half and in white space:

- ``official``: the script of the Robust Reading Competition. Both sides are lower-cased and runs of white space become one
  space before the distance is taken, but the length is that of the longer *raw* text, and exactly one half is kept.
- ``pix2struct``: exactly one half counts as 0 (so does the package ``anls``); the length is that of the prepared texts.
- ``mp-docvqa``: like official, but white space inside stays as it is; the length is that of the prepared texts.
"""

from taid_vlm_eval.metrics.edit_distance import edit_distance
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode, truths_of

MODES = ("official", "pix2struct", "mp-docvqa")
THRESHOLD = 0.5


def _similarity(answer: str, truth: str, mode: str) -> float:
    if mode == "mp-docvqa":
        given, wanted = answer.strip().lower(), truth.strip().lower()
    else:
        given, wanted = " ".join(answer.lower().split()), " ".join(truth.lower().split())
    # The script takes the lengths of upper-cased texts: one of a sharp s is two.
    raw = max(len(answer.upper()), len(truth.upper()))
    length = raw if mode == "official" else max(len(given), len(wanted))
    if length == 0:
        return 1.0
    # At least the difference of the lengths is edited: where that alone leads below the threshold, it settles the matter.
    if abs(len(given) - len(wanted)) / length > 1 - THRESHOLD:
        return 0.0
    return 1 - edit_distance(given, wanted) / length


def anls(answer: str, truth: Truth, *, mode: str = "official") -> float:
    """ANLS of one answer in [0, 1], for the closest of the right ones; the benchmark's figure is the mean.

    Raises:
        UserError: unknown mode.
    """
    require_mode(mode, MODES)
    best = max((_similarity(answer, one, mode) for one in truths_of(truth)), default=0.0)
    kept = best > THRESHOLD if mode == "pix2struct" else best >= THRESHOLD
    return best if kept else 0.0


def _score(answer: str, truth: Truth, *, mode: str = "official") -> Score:
    return Score(anls(answer, truth, mode=mode), "text" if answer.strip() else "empty", answer.strip() or None)


SCORERS.register("anls")(Scorer(_score, readings=("text", "empty"), closed=False, modes=MODES))
