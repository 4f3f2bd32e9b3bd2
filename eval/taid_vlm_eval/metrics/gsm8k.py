"""GSM8K: the number at the end (Cobbe et al., arXiv:2110.14168).

Modes:

- ``default``: strict, then flexible; numbers that are equal count as equal ("18.00" and "18").
- ``strict``: the first number behind "####", as lm-evaluation-harness reads it, and equal as text without ",", "$" and a
  trailing full stop.
- ``flexible``: the last thing like a number anywhere, compared the same way.
"""

import re
from decimal import Decimal, InvalidOperation

from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode, truths_of

MODES = ("default", "strict", "flexible")
_MARKED = re.compile(r"#### (-?[0-9.,]+)")
_MARKED_LOOSELY = re.compile(r"####\s{0,8}(-?\s?\$?-?[0-9][0-9.,]*)")
_ANYWHERE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


def _bare(text: str) -> str:
    """Without ",", "$", what stands before the last "#### ", and one trailing full stop; lower-cased."""
    text = text.rsplit("#### ", 1)[-1].replace(",", "").replace("$", "").strip()
    return text.removesuffix(".").lower()


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text.strip(".").replace(" ", "")) if re.fullmatch(r"-?\s?[0-9.]+", text) else None
    except InvalidOperation:
        return None


def gsm8k(answer: str, truth: Truth, *, mode: str = "default") -> float:
    """1.0 when the answer ends in the right number, else 0.0.

    Args:
        truth: the number, or a whole solution with the number behind "#### ".

    Raises:
        UserError: unknown mode.
    """
    return _score(answer, truth, mode=mode).value


def _score(answer: str, truth: Truth, *, mode: str = "default") -> Score:
    require_mode(mode, MODES)
    if not answer.strip():
        return Score(0.0, "empty")
    marked = (_MARKED_LOOSELY if mode == "default" else _MARKED).search(answer)
    found = marked[1] if marked and mode != "flexible" else None
    how = "strict"
    if found is None and mode != "strict":
        last = None
        for last in _ANYWHERE.finditer(answer):
            # In prose, a comma and a full stop in a row are no number; the harness takes them for one.
            if mode == "default" and any(character.isdigit() for character in last[0]):
                found = last[0]
        if mode == "flexible" and last is not None:
            found = last[0]
        how = "flexible"
    if found is None:
        return Score(0.0, "none")
    given, wanted = _bare(found), [_bare(one) for one in truths_of(truth)]
    right = given in wanted
    if mode == "default" and not right:
        number = _number(given)
        right = number is not None and any(number == _number(one) for one in wanted)
    return Score(float(right), how, given)


SCORERS.register("gsm8k")(
    Scorer(_score, ("strict", "flexible", "none", "empty"), closed=False, modes=MODES, unparsed=("none", "empty"))
)
