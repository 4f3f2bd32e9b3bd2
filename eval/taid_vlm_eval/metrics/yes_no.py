"""Yes or no: POPE, MME, HallusionBench.

Modes, by how the answer is read:

- ``default``: strict, where nothing but marks stands around the word; then lenient, where the answer opens with the word and a
  mark ("No, there is none."), or where one of the two words alone stands in it. "Yes and no", "not yes" and no such word: nothing.
- ``pope``: the script of POPE's authors (Li et al., arXiv:2305.10355). Of the text before the first full stop, the words
  "No", "no" or "not" make it no; *everything else is yes*, "NO", "nope" and an empty answer among it.
- ``mme``: the first four characters, lower-cased, hold "yes" or "no" (Fu et al., arXiv:2306.13394).
- ``vlmevalkit``: exactly one of the words "yes" and "no" is there after its removal of punctuation.
"""

import re

from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode, truths_of
from taid_vlm_eval.metrics.vqa_words import strip_punctuation

MODES = ("default", "pope", "mme", "vlmevalkit")
_ALONE = re.compile(r"[\W_]*(yes|no)[\W_]*", re.I)
_OPENS = re.compile(r"[\s\"'*_`(\[]{0,16}(yes|no)[*_\"'`)\]]{0,4}(?:[,.;:!\n]|\s+[-–—])", re.I)
_WORD = re.compile(r"(?<![\w'’-])(yes|no)(?![\w'’-])", re.I)
_BOTH = re.compile(r"\byes\b\W{0,3}(?:\w{2,3}\W{1,3})?\bno\b|\bno\b\W{0,3}(?:\w{2,3}\W{1,3})?\byes\b", re.I)
_BEFORE = re.compile(r"\b(?:not|never|neither|nor|\w{1,8}n['’]t)\b[^.!?\n]{0,40}\Z", re.I)


def read_yes_no(answer: str, *, mode: str = "default") -> tuple[str | None, str]:
    """ "yes", "no" or None, and how it was read: ``strict``, ``lenient``, ``none`` or ``empty``.

    Raises:
        UserError: unknown mode.
    """
    require_mode(mode, MODES)
    if mode == "pope":
        return _pope(answer), "lenient" if answer.strip() else "empty"
    if not answer.strip():
        return None, "empty"
    alone = _ALONE.fullmatch(answer)
    if mode == "default" and alone:
        return alone[1].lower(), "strict"
    word = {"default": _default, "mme": _mme, "vlmevalkit": _vlmevalkit}[mode](answer)
    return word, "lenient" if word else "none"


def _default(answer: str) -> str | None:
    if _BOTH.match(answer.lstrip(" \n\t\"'*_`([")):
        return None
    opening = _OPENS.match(answer)
    if opening:
        return opening[1].lower()
    words = list(_WORD.finditer(answer))
    if len({word[0].lower() for word in words}) != 1:
        return None
    first = words[0]
    return None if _BEFORE.search(answer, max(0, first.start() - 60), first.start()) else first[0].lower()


def _pope(answer: str) -> str:
    words = answer.split(".", 1)[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def _mme(answer: str) -> str | None:
    # Both do not fit into four characters.
    start = answer.strip().lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else None


def _vlmevalkit(answer: str) -> str | None:
    words = set(strip_punctuation(answer.lower(), keep_after_digit=True).split()) & {"yes", "no"}
    return words.pop() if len(words) == 1 else None


def yes_no(answer: str, truth: Truth, *, mode: str = "default") -> float:
    """1.0 when the answer says what the truth ("yes" or "no", in any case) says, else 0.0.

    Raises:
        UserError: unknown mode.
    """
    return _score(answer, truth, mode=mode).value


def _score(answer: str, truth: Truth, *, mode: str = "default") -> Score:
    word, how = read_yes_no(answer, mode=mode)
    return Score(float(word in {one.strip().lower() for one in truths_of(truth)}), how, word)


SCORERS.register("yes_no")(
    Scorer(_score, ("strict", "lenient", "none", "empty"), closed=True, modes=MODES, unparsed=("none", "empty"))
)
