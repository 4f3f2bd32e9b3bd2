"""Exact match as GQA's evaluations do it (Hudson and Manning, arXiv:1902.09506).

Modes:

- ``default``: :func:`exact_match`, strict then lenient.
- ``official``: the texts are equal, character for character.
- ``llava``: one trailing full stop of the answer is dropped and it is lower-cased, then official.
- ``lmms``: both are lower-cased and lose all ASCII punctuation, but are not stripped: "t-shirt" is "tshirt", "dog " is not "dog".
- ``vlmevalkit``: both are stripped and lower-cased.
"""

import string

from taid_vlm_eval.metrics.exact_match import match_kind
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode, truths_of

MODES = ("default", "official", "llava", "lmms", "vlmevalkit")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def gqa_match(answer: str, truth: Truth, *, mode: str = "default") -> float:
    """1.0 when the answer equals a right one in the sense of ``mode``, else 0.0.

    Raises:
        UserError: unknown mode.
    """
    return _score(answer, truth, mode=mode).value


def _score(answer: str, truth: Truth, *, mode: str = "default") -> Score:
    require_mode(mode, MODES)
    if mode == "default":
        how = match_kind(answer, truth)
        return Score(float(how in ("strict", "lenient")), how, answer.strip() or None)
    if not answer.strip():
        return Score(0.0, "empty")
    given, humans = answer, truths_of(truth)
    if mode == "llava":
        given = given.removesuffix(".").lower()
    elif mode == "lmms":
        given = given.lower().translate(_NO_PUNCTUATION)
        humans = [one.lower().translate(_NO_PUNCTUATION) for one in humans]
    elif mode == "vlmevalkit":
        given, humans = given.strip().lower(), [one.strip().lower() for one in humans]
    return Score(1.0, "strict", given) if given in humans else Score(0.0, "none", given)


SCORERS.register("gqa")(Scorer(_score, readings=("strict", "lenient", "none", "empty"), closed=True, modes=MODES))
