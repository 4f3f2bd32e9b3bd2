"""The 25 instructions of IFEval that can be checked by rule (Zhou et al., arXiv:2311.07911)."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.registry import Registry
from taid_vlm_eval.metrics.ifeval_text import count_capital_words, count_sentences, count_words, detect_language

Check = Callable[[str, Mapping[str, Any]], bool]  # (answer, arguments of the instruction) -> was it followed?
CHECKS: Registry[Check] = Registry("instruction")


def _argument(arguments: Mapping[str, Any], name: str) -> Any:
    if arguments.get(name) is None:
        raise UserError(f"an IFEval record has {dict(arguments)} and lacks {name!r}; expected the benchmark's kwargs")
    return arguments[name]


def _compare(count: int, arguments: Mapping[str, Any], threshold: str, relation: str = "relation") -> bool:
    wanted = _argument(arguments, relation)
    if wanted not in ("less than", "at least"):
        raise UserError(f"an IFEval record has the relation {wanted!r}; expected 'less than' or 'at least'")
    limit = int(_argument(arguments, threshold))
    return count < limit if wanted == "less than" else count >= limit


def _occurrences(text: str, word: str) -> int:
    return len(re.findall(re.escape(word.strip()), text, re.I))


@CHECKS.register("keywords:existence")
def _existence(answer: str, arguments: Mapping[str, Any]) -> bool:
    return all(_occurrences(answer, word) for word in _argument(arguments, "keywords"))


@CHECKS.register("keywords:frequency")
def _frequency(answer: str, arguments: Mapping[str, Any]) -> bool:
    return _compare(_occurrences(answer, _argument(arguments, "keyword")), arguments, "frequency")


@CHECKS.register("keywords:forbidden_words")
def _forbidden(answer: str, arguments: Mapping[str, Any]) -> bool:
    words = _argument(arguments, "forbidden_words")
    return not any(re.search(rf"\b{re.escape(word)}\b", answer, re.I) for word in words)


@CHECKS.register("keywords:letter_frequency")
def _letters(answer: str, arguments: Mapping[str, Any]) -> bool:
    count = answer.lower().count(_argument(arguments, "letter").strip().lower())
    return _compare(count, arguments, "let_frequency", "let_relation")


@CHECKS.register("language:response_language")
def _language(answer: str, arguments: Mapping[str, Any]) -> bool:
    return detect_language(answer) in (None, _argument(arguments, "language"))


@CHECKS.register("length_constraints:number_sentences")
def _sentences(answer: str, arguments: Mapping[str, Any]) -> bool:
    return _compare(count_sentences(answer), arguments, "num_sentences")


@CHECKS.register("length_constraints:number_words")
def _words(answer: str, arguments: Mapping[str, Any]) -> bool:
    return _compare(count_words(answer), arguments, "num_words")


@CHECKS.register("length_constraints:number_paragraphs")
def _paragraphs(answer: str, arguments: Mapping[str, Any]) -> bool:
    """Paragraphs between "***"; the first and the last may be empty, no other."""
    parts = re.split(r"\s?\*\*\*\s?", answer)
    if not all(part.strip() for part in parts[1:-1]):
        return False
    return sum(bool(part.strip()) for part in parts) == int(_argument(arguments, "num_paragraphs"))


@CHECKS.register("length_constraints:nth_paragraph_first_word")
def _first_word(answer: str, arguments: Mapping[str, Any]) -> bool:
    """Paragraphs between blank lines; empty ones are not counted but keep their place."""
    parts = answer.split("\n\n")
    count, place = sum(bool(part.strip()) for part in parts), int(_argument(arguments, "nth_paragraph"))
    if not 1 <= place <= count or not parts[place - 1].strip():
        return False
    word = parts[place - 1].split()[0].lstrip("'").lstrip('"')
    word = re.split(r"[.,?!'\"]", word, maxsplit=1)[0].lower()
    return count == int(_argument(arguments, "num_paragraphs")) and word == _argument(arguments, "first_word").lower()


@CHECKS.register("detectable_content:number_placeholders")
def _placeholders(answer: str, arguments: Mapping[str, Any]) -> bool:
    # One bracket that closes, on one line; an opening one without an end is none.
    found = sum(_bracketed(line) for line in answer.split("\n"))
    return found >= int(_argument(arguments, "num_placeholders"))


def _bracketed(line: str) -> int:
    count, place = 0, line.find("[")
    while place >= 0:
        end = line.find("]", place)
        if end < 0:
            break
        count, place = count + 1, line.find("[", end)
    return count


@CHECKS.register("detectable_content:postscript")
def _postscript(answer: str, arguments: Mapping[str, Any]) -> bool:
    marker = _argument(arguments, "postscript_marker").strip()
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(known.get(marker, re.escape(marker.lower())), answer.lower()) is not None


@CHECKS.register("detectable_format:number_bullet_lists")
def _bullets(answer: str, arguments: Mapping[str, Any]) -> bool:
    """Exactly so many lines that begin with "*" (and no second one) or "-"."""
    lines = [line.lstrip() for line in answer.split("\n")]
    stars = sum(line.startswith("*") and line[1:2] not in ("", "*") for line in lines)
    dashes = sum(line.startswith("-") for line in lines)
    return stars + dashes == int(_argument(arguments, "num_bullets"))


@CHECKS.register("detectable_format:constrained_response")
def _constrained(answer: str, arguments: Mapping[str, Any]) -> bool:
    return any(f"My answer is {word}." in answer for word in ("yes", "no", "maybe"))


@CHECKS.register("detectable_format:number_highlighted_sections")
def _highlights(answer: str, arguments: Mapping[str, Any]) -> bool:
    """ "*so*" and "**so**" on one line, not empty; the second kind counts in both searches of the script."""
    found = [one.strip("*") for one in re.findall(r"\*[^\n*]*\*", answer)]
    found += [one[2:-2] for one in re.findall(r"\*\*[^\n*]*\*\*", answer)]
    return sum(bool(one.strip()) for one in found) >= int(_argument(arguments, "num_highlights"))


@CHECKS.register("detectable_format:multiple_sections")
def _sections(answer: str, arguments: Mapping[str, Any]) -> bool:
    splitter = re.escape(_argument(arguments, "section_spliter").strip())  # spelt so in the data
    return len(re.findall(rf"{splitter}\s?\d+", answer)) >= int(_argument(arguments, "num_sections"))


@CHECKS.register("detectable_format:json_format")
def _json(answer: str, arguments: Mapping[str, Any]) -> bool:
    text = answer.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


@CHECKS.register("detectable_format:title")
def _title(answer: str, arguments: Mapping[str, Any]) -> bool:
    """Some text between "<<" and ">>" on one line."""
    for line in answer.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end - 2 and line[start:end].lstrip("<").rstrip(">").strip():
            return True
    return False


@CHECKS.register("combination:two_responses")
def _two_responses(answer: str, arguments: Mapping[str, Any]) -> bool:
    parts = [part.strip() for part in answer.split("******")]
    texts = [part for part in parts if part]
    return all(parts[1:-1]) and len(texts) == 2 and texts[0] != texts[1]


@CHECKS.register("combination:repeat_prompt")
def _repeat(answer: str, arguments: Mapping[str, Any]) -> bool:
    return answer.strip().lower().startswith(_argument(arguments, "prompt_to_repeat").strip().lower())


@CHECKS.register("startend:end_checker")
def _end(answer: str, arguments: Mapping[str, Any]) -> bool:
    return answer.strip().strip('"').lower().endswith(_argument(arguments, "end_phrase").strip().lower())


@CHECKS.register("startend:quotation")
def _quotation(answer: str, arguments: Mapping[str, Any]) -> bool:
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


@CHECKS.register("change_case:capital_word_frequency")
def _capital_words(answer: str, arguments: Mapping[str, Any]) -> bool:
    return _compare(count_capital_words(answer), arguments, "capital_frequency", "capital_relation")


@CHECKS.register("change_case:english_capital")
def _capital(answer: str, arguments: Mapping[str, Any]) -> bool:
    return answer.isupper() and detect_language(answer) == "en"


@CHECKS.register("change_case:english_lowercase")
def _lowercase(answer: str, arguments: Mapping[str, Any]) -> bool:
    return answer.islower() and detect_language(answer) == "en"


@CHECKS.register("punctuation:no_comma")
def _no_comma(answer: str, arguments: Mapping[str, Any]) -> bool:
    return "," not in answer
