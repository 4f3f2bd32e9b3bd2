"""Scorers by name: from one answer and its truth to a number, and a word on how it was read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taid_vlm.common.registry import Registry
from taid_vlm_eval.metrics.exact_match import match_kind
from taid_vlm_eval.metrics.rouge import rouge_l, words

Truth = str | Sequence[str]


@dataclass(frozen=True)
class Score:
    """``value`` in [0, 1]; ``how`` the answer was read, counted in the parse notes of a result."""

    value: float
    how: str


@dataclass(frozen=True)
class Scorer:
    """A scoring rule.

    Attributes:
        score: answer and truth (one, or several right ones) to :class:`Score`.
        readings: every ``how`` the rule can give, in the order results list them.
        closed: answers repeat between items, so the score of always giving the most frequent one is worth stating.
    """

    score: Callable[[str, Truth], Score]
    readings: tuple[str, ...]
    closed: bool


SCORERS: Registry[Scorer] = Registry("scorer")


def _exact_match(answer: str, truth: Truth) -> Score:
    how = match_kind(answer, truth)
    return Score(1.0 if how in ("strict", "lenient") else 0.0, how)


def _rouge_l(answer: str, truth: Truth) -> Score:
    return Score(rouge_l(answer, truth), "words" if words(answer) else "empty")


SCORERS.register("exact_match")(Scorer(_exact_match, readings=("strict", "lenient", "none", "empty"), closed=True))
SCORERS.register("rouge_l")(Scorer(_rouge_l, readings=("words", "empty"), closed=False))
