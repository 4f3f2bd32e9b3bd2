"""MMMU's own reading of choices and of open answers (Yue et al., arXiv:2311.16502), without its dice.

The authors' script draws a random option where it finds none; here that is no answer, which is wrong. All else is theirs, also that
"B. a dog", "B)" and a lower-case "b" are not found, and that "A large dog" is A.
"""

import re
from collections.abc import Mapping

from taid_vlm_eval.metrics.letters import Options, option_table, read_letter
from taid_vlm_eval.metrics.letters_modes import vlmevalkit_letter
from taid_vlm_eval.metrics.score import SCORERS, Score, Scorer, Truth, require_mode, truths_of

MODES = ("default", "mmmu", "vlmevalkit", "vlmevalkit-2025-01")
_KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = {":", ",", ".", "!", "?", ";", "'"}
# A number starts at the first digit of a run; without that condition, a long run of digits would take quadratic time.
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?(?<!\d)\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:(?<!\d)\d+\.\d+|\.\d+|(?<!\d)\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def mmmu_letter(answer: str, table: Mapping[str, str]) -> str | None:
    """The letter by the authors' rules: "(A)"; else " A "; else, in more than five words, the text of an option.

    Of several the last one in the answer counts.
    """
    text = answer
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text = f" {text} "
    for form in ("({})", " {} "):
        places = {letter: text.rfind(form.format(letter)) for letter in table}
        if max(places.values(), default=-1) >= 0:
            return max(places, key=lambda letter: places[letter])
    if len(text.split()) > 5:
        lower = text.lower()
        places = {letter: lower.rfind(option.lower()) for letter, option in table.items()}
        if max(places.values(), default=-1) >= 0:
            return max(places, key=lambda letter: places[letter])
    return None


def mmmu_open(answer: str, truth: Truth) -> float:
    """1.0 when an open answer holds the truth: as text in one of its key phrases, or as an equal number, else 0.0.

    Key phrases are what follows "is", "so", "therefore", "answer" and the like in a line, in the last line also "=".
    Numbers are compared after rounding to two places. An empty answer is wrong.
    """
    if not answer.strip():
        return 0.0
    wanted = [one for text in truths_of(truth) for one in _normalised(text)]
    numbers = {one for one in wanted if isinstance(one, float)}
    texts = [one for one in wanted if isinstance(one, str) and one.strip()]
    for found in _candidates(answer):
        if isinstance(found, float):
            if found in numbers:
                return 1.0
        elif any(text in found for text in texts):
            return 1.0
    return 0.0


def _candidates(answer: str) -> list[str | float]:
    keys = _key_phrases(answer)
    numbers = [number for key in keys for pattern in _NUMBERS for number in pattern.findall(key)]
    return [one for text in dict.fromkeys(keys + numbers) for one in _normalised(text)]


def _key_phrases(answer: str) -> list[str]:
    # The authors split at ". A" too, but after lower-casing, where no capital is left.
    lines = answer.strip().strip(".").lower().split("\n")
    phrases = []
    for number, line in enumerate(lines):
        keys = (*_KEYS, "=") if number == len(lines) - 1 else _KEYS
        shortest = ""
        for key in keys:
            if key in line:
                tail = line.rsplit(key, 1)[1].strip()
                # An empty tail wins by its length, and gives way to whatever comes next.
                if not shortest or len(tail) < len(shortest):
                    shortest = tail
        if shortest and shortest not in _TRIVIAL:
            phrases.append(shortest)
    return phrases or ["\n".join(lines)]


def _normalised(text: str) -> list[str | float]:
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        # One letter must stand at the edge of a word.
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def mmmu_match(
    answer: str,
    truth: Truth,
    *,
    options: Options | None = None,
    question_type: str = "multiple-choice",
    mode: str = "default",
) -> float:
    """1.0 when an answer to a question of MMMU is right, else 0.0.

    Args:
        question_type: ``multiple-choice`` (the truth is a letter) or ``open``.
        mode: ``mmmu`` finds letters by the authors' rules, ``default`` by :func:`read_letter`. Open answers are read by the
            authors' rules in both. ``vlmevalkit`` and ``vlmevalkit-2025-01`` make a choice of every question without options: A is
            the truth, B "Other Answers", so that a bare "A" is right there.

    Raises:
        UserError: unknown mode.
    """
    return _score(answer, truth, options=options, question_type=question_type, mode=mode).value


def _score(
    answer: str,
    truth: Truth,
    *,
    options: Options | None = None,
    question_type: str = "multiple-choice",
    mode: str = "default",
) -> Score:
    require_mode(mode, MODES)
    if not answer.strip():
        return Score(0.0, "empty")
    if mode.startswith("vlmevalkit"):
        return _as_vlmevalkit(answer, truth, options, at_2025_01=mode == "vlmevalkit-2025-01")
    if question_type == "open":
        return Score(mmmu_open(answer, truth), "open", answer.strip())
    if mode == "default":
        letter, how = read_letter(answer, options)
    else:
        letter = mmmu_letter(answer, option_table(options))
        how = "lenient" if letter else "none"
    return Score(float(letter in truths_of(truth)), how, letter)


def _as_vlmevalkit(answer: str, truth: Truth, options: Options | None, *, at_2025_01: bool) -> Score:
    if not options:
        # A list of truths is one text there, brackets and all.
        options, truth = {"A": truth if isinstance(truth, str) else str(list(truth)), "B": "Other Answers"}, "A"
    letter = vlmevalkit_letter(answer, option_table(options), at_2025_01=at_2025_01)
    return Score(float(letter in truths_of(truth)), "lenient" if letter else "none", letter)


SCORERS.register("mmmu")(
    Scorer(
        _score,
        readings=("strict", "lenient", "open", "none", "empty"),
        closed=False,
        takes=("options", "question_type"),
        modes=MODES,
        unparsed=("none", "empty"),
    )
)
