"""Exact match of short answers: strict first, then lenient, never by containment.

*Strict*: both sides are normalised (Unicode NFC, stripped, lower-cased, runs of white space become one space,
one trailing full stop is dropped) and must be equal.

*Lenient*, tried only when strict fails: of the answer, the first line that is not empty is kept, an introduction ("answer:",
"the answer is") is dropped, and so are quotes, brackets, asterisks and closing punctuation around the rest. What
remains must equal the normalised truth. "red or blue" never matches "red": an answer that hedges is wrong.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth

Match = Literal["strict", "lenient", "none", "empty"]

_INTRODUCTION = re.compile(r"^(?:(?:the )?(?:final )?answer(?: is\b:?|:)|(?:it is|it's)\b)\s*")
_WRAPPING = "\"'`*_()[]{}“”‘’«»「」 "
_CLOSING = ".,;:!?。！？"


def normalise(text: str) -> str:
    """Lower-cased text with single spaces and without one trailing full stop.

    A text that is only a full stop stays as it is. Digits are not interpreted: "1.0" is not "1", "１" is not "1".
    """
    text = " ".join(unicodedata.normalize("NFC", text).lower().split())
    if text.endswith(".") and len(text) > 1:
        text = text[:-1].rstrip()
    return text


def unwrap(answer: str) -> str:
    """The normalised first line of an answer without an introduction and the marks around it."""
    lines = answer.strip().splitlines()
    text = normalise(lines[0]) if lines else ""
    # An introduction may stand inside the wrapping ("**Answer: red**") or outside ("Answer: **red**").
    text = _INTRODUCTION.sub("", text.strip(_WRAPPING))
    previous = None
    while text != previous:
        previous = text
        text = text.strip(_WRAPPING).rstrip(_CLOSING)
    return text


def match_kind(answer: str, truth: str | Sequence[str]) -> Match:
    """How ``answer`` matches ``truth``, or any of them when several are right.

    Returns:
        ``"strict"``, ``"lenient"`` or ``"none"``; ``"empty"`` when the answer holds nothing, which is never right.
    """
    truths = {normalise(one) for one in ([truth] if isinstance(truth, str) else truth)}
    text = normalise(answer)
    if not text:
        return "empty"
    if text in truths:
        return "strict"
    lenient = unwrap(answer)
    return "lenient" if lenient and lenient in truths else "none"


def exact_match(answer: str, truth: str | Sequence[str]) -> float:
    """1.0 when the answer matches strictly or leniently, else 0.0 (see the module for both)."""
    return 1.0 if match_kind(answer, truth) in ("strict", "lenient") else 0.0


def _score(answer: str, truth: Truth) -> Score:
    how = match_kind(answer, truth)
    return Score(1.0 if how in ("strict", "lenient") else 0.0, how, answer.strip() or None)


SCORERS.register("exact_match")(Scorer(_score, readings=("strict", "lenient", "none", "empty"), closed=True))
