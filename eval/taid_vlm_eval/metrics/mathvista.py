"""MathVista by rule, without the model that the authors let find the answer in the text (Lu et al., arXiv:2310.02255).

The figure is called ``mathvista_rule`` in results: it is not the leaderboard's, whose extractor reads more answers.
The answer is taken from a box, else from the last "the answer is", else (multiple choice) by :func:`read_letter`, else it is
the last number of the text. Modes, by how it is compared:

- ``default``: choices by letter; integers as numbers, floats too after rounding to the precision; lists by their numbers.
- ``official``: the authors' normalisation and equality of texts. "0.6" is not "0.60" there, and a choice that is none of the
  options becomes the nearest one by edit distance. An empty answer is none, where theirs would become the shortest option.
"""

import re
from collections.abc import Sequence

from taid_vlm_eval.metrics.edit_distance import edit_distance
from taid_vlm_eval.metrics.exact_match import normalise, unwrap
from taid_vlm_eval.metrics.letters import read_letter
from taid_vlm_eval.metrics.numerals import written_number
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode, truths_of
from taid_vlm_eval.metrics.statements import last_boxed, last_statement

MODES = ("default", "official")
_NUMBER = re.compile(r"(?<![\w.])[-+]?[$€£¥]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)", re.ASCII)
_LETTER = re.compile(r"\(([a-zA-Z])\)")
_LIST = re.compile(r"\[[^\[\]]{0,400}\]")


def mathvista_rule(
    answer: str,
    truth: Truth,
    *,
    choices: Sequence[str] | None = None,
    answer_type: str = "text",
    precision: float | None = None,
    mode: str = "default",
) -> float:
    """1.0 when the answer found by rule is the right one, else 0.0.

    Args:
        truth: the text of the right choice, or the number or list as the data writes it.
        choices: the options' texts; None for a free-form question.
        answer_type: ``text``, ``integer``, ``float`` or ``list``.
        precision: places behind the point of a float.

    Raises:
        UserError: unknown mode.
    """
    return _score(answer, truth, choices=choices, answer_type=answer_type, precision=precision, mode=mode).value


def _score(
    answer: str,
    truth: Truth,
    *,
    choices: Sequence[str] | None = None,
    answer_type: str = "text",
    precision: float | None = None,
    mode: str = "default",
) -> Score:
    require_mode(mode, MODES)
    if not answer.strip():
        return Score(0.0, "empty")
    found = _choice(answer, list(choices), mode) if choices else _free_form(answer, answer_type)
    if found is None:
        return Score(0.0, "none")
    places = 1 if precision is None else int(precision)
    if mode == "official" and not choices:
        found = _official(found, answer_type, places)
        return Score(float(found is not None and found.strip() in truths_of(truth)), "rule", found)
    right = any(_equal(found, one, "text" if choices else answer_type, places) for one in truths_of(truth))
    return Score(float(right), "rule", found)


def _choice(answer: str, choices: list[str], mode: str) -> str | None:
    letter, _ = read_letter(answer, choices)
    if letter is not None:
        return choices[ord(letter) - ord("A")]
    if mode == "default":
        return None
    stated = last_boxed(answer) or last_statement(answer) or answer.strip()
    marked = _LETTER.search(stated)
    if marked and ord(marked[1].upper()) - ord("A") < len(choices):
        return choices[ord(marked[1].upper()) - ord("A")]
    return min(choices, key=lambda one: edit_distance(stated, one))


def _free_form(answer: str, answer_type: str) -> str | None:
    for stated in (last_boxed(answer), last_statement(answer), answer):
        if stated is None:
            continue
        if answer_type == "list":
            lists: list[str] = _LIST.findall(stated)
            if lists:
                return lists[-1]
        elif answer_type in ("integer", "float"):
            whole = written_number(unwrap(stated))
            if whole is not None:
                return unwrap(stated)
            numbers: list[str] = _NUMBER.findall(stated)
            if numbers:
                return numbers[-1]
        else:
            return stated.strip() or None
    return None


def _official(found: str, answer_type: str, places: int) -> str | None:
    number = written_number(found)
    try:
        if answer_type == "integer":
            return None if number is None else str(int(number))
        if answer_type == "float":
            return None if number is None else str(round(number, places))
    except (OverflowError, ValueError):
        return None
    return found


def _equal(found: str, truth: str, answer_type: str, places: int) -> bool:
    if answer_type == "list":
        given, wanted = ([written_number(one) for one in text.strip("[] ").split(",")] for text in (found, truth))
        return None not in given and given == wanted
    if answer_type in ("integer", "float"):
        number, wanted_number = written_number(found), written_number(truth)
        if number is None or wanted_number is None:
            return False
        return number == wanted_number or (
            answer_type == "float" and round(number, places) == round(wanted_number, places)
        )
    return normalise(truth) in (normalise(found), unwrap(found))


SCORERS.register("mathvista_rule")(
    Scorer(
        _score,
        readings=("rule", "none", "empty"),
        closed=False,
        takes=("choices", "answer_type", "precision"),
        modes=MODES,
        unparsed=("none", "empty"),
    )
)
