"""How other harnesses find the letter of an option. Nothing here is random; see :mod:`letters` for the default.

VLMEvalKit and lmms-eval are followed as they stood in August 2026. What fails there for reasons outside the answer (an
environment variable that counts as set when it is "0", say) is left out.
"""

import re
from collections.abc import Mapping

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_SPACED = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_BOLD_ANSWER = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.I)


def vlmevalkit_letter(answer: str, table: Mapping[str, str], *, at_2025_01: bool = False) -> str | None:
    """VLMEvalKit's rules without its judge.

    One option letter alone among the words, and it first stands among the last four of them (in January 2025: anywhere);
    else (not in January 2025) "answer is **B**"; else the text of one option alone inside the answer, which must not be longer
    than all options twice over (in January 2025: of any length). A refusal, or a bare "Z", is no answer.
    """
    if "Failed to obtain answer via API" in answer:
        return _contained_option(answer, table, limited=not at_2025_01)
    if any(refusal in answer for refusal in _REFUSALS):
        return None
    words = answer.translate(_SPACED).split()
    present = [letter for letter in table if letter in words]
    if len(present) == 1 and (at_2025_01 or words.index(present[0]) > len(words) - 5):
        return present[0]
    if not present and "Z" in words:
        return None
    stated = None if at_2025_01 else _BOLD_ANSWER.search(answer)
    if stated and stated[1].upper() in table:
        return stated[1].upper()
    return _contained_option(answer, table, limited=not at_2025_01)


def _contained_option(answer: str, table: Mapping[str, str], *, limited: bool) -> str | None:
    if limited and len(answer) > 2 * sum(len(text) for text in table.values()):
        return None
    present = [letter for letter, text in table.items() if text.lower() in answer.lower()]
    return present[0] if len(present) == 1 else None


_PHRASES = (
    *(
        "the answer is",
        "answer is",
        "the correct answer is",
        "correct answer is",
        "the best answer is",
        "best answer is",
    ),
    *(
        "the correct option is",
        "correct option is",
        "the best option is",
        "best option is",
        "the choice is",
        "choice is",
    ),
    *("the correct choice is", "correct choice is", "i choose", "i select", "i pick", "my answer is", "my choice is"),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)


def lmms_letter(answer: str, table: Mapping[str, str]) -> str | None:
    """lmms-eval's extractor: ten formats with a rank each; the highest rank wins, then the last place.

    In order: at the start, at the end, behind a phrase, "(A)", "A.", "A:", "A)", "A ", and, only when none of these is there,
    anywhere. It is eager: "CAT is here" is A.
    """
    text = answer.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    bare, text = text.strip(), f" {text} "
    found: list[tuple[int, int, str]] = []
    for rank, form in ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} ")):
        places = ((text.rfind(form.format(letter)), letter) for letter in table)
        found += [(rank, place, letter) for place, letter in places if place >= 0]
    lower = text.lower()
    for phrase in _PHRASES:
        start = lower.find(phrase)
        places = ((text.find(letter, start + len(phrase)), letter) for letter in table if start >= 0)
        found += [(7, place, letter) for place, letter in places if place >= 0]
    found += [(10, 0, one) for one in table if bare.startswith(one) and not bare[1:2].isalpha()]
    found += [(9, len(text) - 1, one) for one in table if bare.endswith(one) and not bare[-2:-1].isalpha()]
    if not found:
        found = [(0, text.rfind(letter), letter) for letter in table if letter in text]
    # Of equal ones the first counts, which is what max does.
    return max(found, key=lambda one: one[:2])[2] if found else None


_SENTENCE = re.compile(r"The answer is ([A-Z]).")


def llava_letter(answer: str, table: Mapping[str, str]) -> str | None:
    """LLaVA's rule for ScienceQA: the letter; else "B. ..."; else "The answer is B." exactly once; else nothing."""
    if answer in table:
        return answer
    if answer[:1] in table and answer[1:3] == ". ":
        return answer[0]
    stated = _SENTENCE.findall(answer)
    return stated[0] if len(stated) == 1 and stated[0] in table else None


def first_character(answer: str, table: Mapping[str, str]) -> str | None:
    """lmms-eval's rule for SEED-Bench: the first character, whatever follows it."""
    letter = answer.strip()[:1]
    return letter if letter in table else None
