"""What a scoring rule is, and the registry of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.plug_ins import SCORERS as PLUG_INS
from taid_vlm.common.registry import Registry

Truth = str | Sequence[str]


@dataclass(frozen=True)
class Score:
    """``value`` in [0, 1]; ``how`` the answer was read, counted in the parse notes of a result.

    ``reading`` is what the answer was taken to say ("B", "yes", "3.5"), None where nothing was found; metrics that look at
    more than right and wrong (the share of "yes", say) use it.
    """

    value: float
    how: str
    reading: str | None = None


@dataclass(frozen=True)
class Scorer:
    """A scoring rule.

    Attributes:
        score: answer and truth (one, or several right ones) to :class:`Score`; what ``takes`` names, and ``mode`` where
            there are ``modes``, are further keywords that may be left out.
        readings: every ``how`` the rule can give, in the order results list them.
        closed: answers repeat between items, so the score of always giving the most frequent one is worth stating.
        takes: the facts of an item that the rule looks at ("options", say).
        modes: names of the variants of the rule; the first is the default. Empty when the field agrees.
        unparsed: the readings that mean that no answer was found in the text.
    """

    score: Callable[..., Score]
    readings: tuple[str, ...]
    closed: bool
    takes: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    unparsed: tuple[str, ...] = ("empty",)

    def apply(self, answer: str, truth: Truth, facts: Mapping[str, Any], mode: str | None = None) -> Score:
        """Score one answer with those of the item's ``facts`` that the rule takes.

        Raises:
            UserError: the rule has no such mode.
        """
        keywords = {name: facts[name] for name in self.takes if name in facts}
        if mode is not None:
            require_mode(mode, self.modes)
            keywords["mode"] = mode
        return self.score(answer, truth, **keywords)

    def parse_rate(self, counts: Mapping[str, int]) -> float:
        """The share of answers in which something was found, from the counts of readings; 1 when there are none."""
        total = sum(counts.values())
        lost = sum(counts.get(how, 0) for how in (*self.unparsed, "error"))
        return 1.0 - lost / total if total else 1.0


SCORERS: Registry[Scorer] = Registry("scorer", PLUG_INS)


def require_mode(mode: str, modes: Sequence[str]) -> None:
    """Check the name of a mode.

    Raises:
        UserError: no such mode; the message lists the close names.
    """
    if not modes:
        raise UserError(f"found mode {mode!r}, but this scorer has no modes; leave it out")
    if mode not in modes:
        raise UserError(f"unknown mode {mode!r}: {did_you_mean(mode, modes)}")


def truths_of(truth: Truth) -> list[str]:
    """The right answers as a list."""
    return [truth] if isinstance(truth, str) else list(truth)
