"""The letter that an answer to a multiple-choice question means: strict first, then lenient, never a guess.

*Strict*: the answer is one letter, with nothing but marks around it: "B", "(b)", "**B**.".

*Lenient*, the first that applies:

1. a box or the last statement of an answer ("the answer is B", "Answer: (B)", "option B"), or the text of an option there;
2. the answer is the text of one option;
3. a letter with a mark opens the answer: "B. a dog", "B) a dog", "B: a dog";
4. one letter alone stands in brackets somewhere, "(B)";
5. one capital letter alone stands free somewhere, the article "A" and the pronoun "I" left out;
6. the text of one option alone stands somewhere.

Two letters that compete ("A or B", "A, B") give nothing, and so does a sentence with a negation in 4 to 6 ("not B"). Letters
inside words never count.
"""

import re
from collections.abc import Mapping, Sequence

from taid_vlm_eval.metrics.exact_match import normalise, unwrap
from taid_vlm_eval.metrics.statements import last_boxed, last_statement

Options = Mapping[str, str] | Sequence[str]
DEFAULT_LETTERS = "ABCDEFGH"

_ALONE = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
_OPENS = re.compile(r"[\s\"'*_`(\[{:$]{0,16}([A-Za-z])([*_)\]}\"'`]{0,6})(?:([.,:\-–—])(?=[\s*_)]|$)|(?<=[)\]:])|\n|$)")
_STATED = re.compile(r"[\s\"'*_`(\[{:$]{0,16}([A-Za-z])(?![A-Za-z0-9'’\-/&])")
_BRACKETED = re.compile(r"[(\[]\s?([A-Za-z])\s?[)\]]")
# Chinese and Japanese write no space before the letter; a Latin letter with an accent is a letter.
_FREE = re.compile(r"(?<![A-Za-z0-9À-ɏ'’\-/.&])[A-Z](?![A-Za-z0-9À-ɏ'’&/]|-\w|\.\w)")
# "A" before a word, unless the word shows that it is a name: "A or B", "A is right".
_ARTICLE = re.compile(
    r"A\s+(?!(?:or|and|nor|but|is|was|has|because|since|as|not|seems|looks|would|instead|then)\b)[a-z]"
)
_PRONOUN = re.compile(r"I\s+[a-z]|I,?\s")
_NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|cannot|incorrect|wrong|false|except|excluding|unlike|eliminated?|rule[sd]? out|"
    r"rather than|instead of|\w{1,8}n['’]t)\b",
    re.I,
)
# Behind these, other letters are reasons, not rivals: "B, not A", "B because A has no tail", "B. A is wrong."
_REASONS = re.compile(
    r"[.!?](?=\s|$)|\n|\b(?:because|since|as|for|while|whereas|not|rather than|instead of|unlike)\b", re.I
)
_LIST_MARK = re.compile(r"^[\s*_(\[-]{0,8}([A-Za-z])[*_]{0,2}[.):\]]", re.M)
_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")


def option_table(options: Options | None) -> dict[str, str]:
    """Options by letter: a list is lettered from A; without any, the letters A to H without texts."""
    if options is None:
        return dict.fromkeys(DEFAULT_LETTERS, "")
    if isinstance(options, Mapping):
        return {str(letter): str(text) for letter, text in options.items()}
    return {chr(ord("A") + place): str(text) for place, text in enumerate(options)}


def read_letter(answer: str, options: Options | None = None) -> tuple[str | None, str]:
    """The letter and how it was read: ``strict``, ``lenient``, ``none`` or ``empty``.

    Args:
        options: texts of the options, as a list or by letter. Without them the letters are A to H, and no text is matched.
    """
    table = option_table(options)
    if not answer.strip():
        return None, "empty"
    alone = _ALONE.fullmatch(answer)
    if alone:
        letter = alone[1].upper()
        return (letter, "strict") if letter in table else (None, "none")
    letter = _lenient(answer, table)
    return (letter, "lenient") if letter else (None, "none")


def _lenient(answer: str, table: dict[str, str]) -> str | None:
    for stated in (last_boxed(answer), last_statement(answer)):
        letter = _stated_letter(stated, table) if stated else None
        if letter:
            return letter
    letter = _option_equal_to(answer, table)
    if letter:
        return letter
    opening = _OPENS.match(answer)
    if opening and (opening[1].isupper() or opening[2] or opening[3] in (".", ":")):
        return _opening_letter(opening[1].upper(), answer[opening.end() :], table)
    for spans in (_bracketed(answer, table), free_letters(answer, table), _option_texts(answer, table)):
        if len(spans) > 1:
            return None
        for letter, places in spans.items():
            # The first few tell; an answer that repeats itself without end must not take long.
            return None if any(_negated(answer, place) for place in places[:20]) else letter
    return None


def _stated_letter(stated: str, table: dict[str, str]) -> str | None:
    head = _STATED.match(stated)
    if head and (head[1].isupper() or not stated[head.end() :].lstrip(" )]}*_\"'`.,:;!").strip()):
        letter = head[1].upper()
        rest = stated[head.end() :]
        return letter if letter in table and not _rivals(letter, rest, table) else None
    equal = _option_equal_to(stated, table)
    if equal:
        return equal
    marked = _bracketed(stated, table)
    if len(marked) == 1 and not _NEGATION.search(stated):
        return next(iter(marked))
    return None


def _opening_letter(letter: str, rest: str, table: dict[str, str]) -> str | None:
    if letter not in table:
        return None
    if table[letter] and normalise(rest.lstrip(" .):*_")) == normalise(table[letter]):
        return letter
    return None if _rivals(letter, rest, table) else letter


def _rivals(letter: str, rest: str, table: dict[str, str]) -> set[str]:
    """Other letters in what follows ``letter``, up to its reasons, and those that open later lines like a list of options."""
    reasons = _REASONS.search(rest)
    near = rest[: reasons.start()] if reasons else rest
    listed = {match[1].upper() for match in _LIST_MARK.finditer(rest)} & table.keys()
    return (free_letters(near, table).keys() | _bracketed(near, table).keys() | listed) - {letter}


def free_letters(text: str, table: Mapping[str, str]) -> dict[str, list[int]]:
    """Capital letters that stand alone, with where: not in words or abbreviations, no article, no pronoun."""
    found: dict[str, list[int]] = {}
    for match in _FREE.finditer(text):
        letter, place = match[0], match.start()
        if letter in table and not _ARTICLE.match(text, place) and not _PRONOUN.match(text, place):
            found.setdefault(letter, []).append(place)
    return found


def _bracketed(text: str, table: Mapping[str, str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for match in _BRACKETED.finditer(text):
        if match[1].upper() in table:
            found.setdefault(match[1].upper(), []).append(match.start())
    return found


def _option_equal_to(answer: str, table: dict[str, str]) -> str | None:
    given = {normalise(answer), unwrap(answer)}
    equal = [letter for letter, text in table.items() if text.strip() and normalise(text) in given]
    return equal[0] if len(equal) == 1 else None


def _option_texts(answer: str, table: dict[str, str]) -> dict[str, list[int]]:
    """Options whose text stands in the answer as words; a text inside a longer one that is found ("dog", "hot dog") is not."""
    text = answer.lower()
    covered = bytearray(len(text))
    found: dict[str, list[int]] = {}
    for letter, option in sorted(table.items(), key=lambda pair: -len(pair[1])):
        wanted = option.strip().lower().rstrip(".")
        if not wanted:
            continue
        for match in re.finditer(rf"(?<!\w){re.escape(wanted)}(?!\w)", text):
            if not any(covered[match.start() : match.end()]):
                found.setdefault(letter, []).append(match.start())
                covered[match.start() : match.end()] = b"\x01" * (match.end() - match.start())
    return found


def _negated(text: str, place: int) -> bool:
    """Whether the sentence around ``place`` holds a negation."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text, max(0, place - 400), place)]
    start = ends[-1] if ends else max(0, place - 400)
    end = _SENTENCE_END.search(text, place, place + 400)
    return _NEGATION.search(text, start, end.start() if end else place + 400) is not None
