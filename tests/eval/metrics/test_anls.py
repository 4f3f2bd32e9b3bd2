"""ANLS, and the edit distance under it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm_eval.metrics import SCORERS, anls
from taid_vlm_eval.metrics.anls import MODES
from taid_vlm_eval.metrics.edit_distance import edit_distance


@pytest.mark.parametrize(
    ("answer", "truth", "score"),
    [
        ("hello", "hello", 1.0),
        ("Hello", "hello", 1.0),
        ("HELLO", "hello", 1.0),
        ("  hello ", "hello", 1.0),
        ("a\n b", "a b", 1.0),
        ("a   b", "a b", 1.0),
        ("hallo", "hello", 0.8),
        ("hell", "hello", 0.8),
        ("helloo", "hello", 1 - 1 / 6),
        ("ab", "ba", 0.0),  # two replacements of two
        ("abcd", "abxy", 0.5),  # exactly one half is kept
        ("abcd", "axyz", 0.0),
        ("ab", "a", 0.5),
        ("abc", "a", 0.0),
        ("world", "hello", 0.0),
        ("", "hello", 0.0),
        ("hello", "", 0.0),
        ("", "", 1.0),
        ("   ", "", 1.0),  # no edit, whatever the length
        ("hello world", ["hello", "world", "hello world"], 1.0),
        ("worl", ["hello", "world"], 0.8),
        ("worl", ["world", "hello"], 0.8),
        ("hello", [], 0.0),
        ("$1,000", "$1000", 1 - 1 / 6),
        ("1000", "1,000", 0.8),
        ("12%", "12", 1 - 1 / 3),
        ("12 %", "12%", 1 - 1 / 4),
        ("12 cm", "12", 0.0),  # 3 of 5
        ("12cm", "12", 0.5),
        ("not hello", "hello", 1 - 4 / 9),
        ("hello or world", "hello", 0.0),
        ("the answer is hello", "hello", 0.0),
        ("hello.", "hello", 1 - 1 / 6),
        ("hello    x", "hello x", 1 - 0 / 10),  # the raw length only divides
        ("hello    y", "hello x", 1 - 1 / 10),  # the raw length: 10, not 7
        ("stra\N{LATIN SMALL LETTER SHARP S}e", "strase", 1 - 1 / 7),  # the length is taken in upper case
        ("\N{HIRAGANA LETTER A}\N{HIRAGANA LETTER I}", "\N{HIRAGANA LETTER A}\N{HIRAGANA LETTER I}", 1.0),
        ("\N{HIRAGANA LETTER A}x", "\N{HIRAGANA LETTER A}\N{HIRAGANA LETTER I}", 0.5),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe", 0.75),
        ("CAF\N{LATIN CAPITAL LETTER E WITH ACUTE}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", 1.0),
        ("kitten", "sitting", 1 - 3 / 7),
        ("2019-01-02", "2019-01-03", 0.9),
    ],
)
def test_the_competitions_script(answer: str, truth: str | list[str], score: float) -> None:
    assert anls(answer, truth) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(
    ("answer", "truth", "official", "pix2struct", "mp_docvqa"),
    [
        ("abcd", "abxy", 0.5, 0.0, 0.5),
        ("ab", "a", 0.5, 0.0, 0.5),
        ("abcde", "abxde", 0.8, 0.8, 0.8),
        ("a  b", "a b", 1.0, 1.0, 0.75),
        ("hello    y", "hello x", 0.9, 1 - 1 / 7, 0.6),
    ],
)
def test_where_the_ways_differ(answer: str, truth: str, official: float, pix2struct: float, mp_docvqa: float) -> None:
    assert [anls(answer, truth, mode=mode) for mode in MODES] == pytest.approx([official, pix2struct, mp_docvqa])


def table_distance(first: str, second: str) -> int:
    """The plain twin: the table of every textbook."""
    row = list(range(len(second) + 1))
    for place, one in enumerate(first, start=1):
        above, row = row, [place]
        for other in range(len(second)):
            row.append(min(above[other] + (one != second[other]), above[other + 1] + 1, row[-1] + 1))
    return row[-1]


texts = st.text("abc ", max_size=90)  # beyond one machine word


@given(texts, texts)
def test_the_distance_is_that_of_the_table(first: str, second: str) -> None:
    assert edit_distance(first, second) == table_distance(first, second) == edit_distance(second, first)


@given(st.text(max_size=12), st.text(max_size=12), st.sampled_from(MODES))
def test_symmetric_bounded_and_blind_to_case(answer: str, truth: str, mode: str) -> None:
    score = anls(answer, truth, mode=mode)
    assert score == 0.0 or 0.5 <= score <= 1.0
    assert score == pytest.approx(anls(truth, answer, mode=mode))
    assert anls(truth, truth, mode=mode) == 1.0


@given(st.text("abcDEF 12", max_size=12), st.text("abcDEF 12", max_size=12))
def test_case_does_not_count(answer: str, truth: str) -> None:
    assert anls(answer.upper(), truth) == anls(answer, truth.lower())


@given(st.text("ab ", max_size=9), st.lists(st.text("ab ", max_size=9), min_size=1, max_size=4))
def test_the_closest_truth_counts(answer: str, truths: list[str]) -> None:
    assert anls(answer, truths) == max(anls(answer, one) for one in truths)


def test_very_long_answers_are_quick() -> None:
    start = time.perf_counter()
    assert anls("hello " * 17_000, "hello") == 0.0
    long = "ab" * 10_000
    assert anls(long + "c", long) == pytest.approx(1 - 1 / 20_001)
    assert time.perf_counter() - start < 5


def test_an_empty_answer_is_read_as_empty() -> None:
    assert SCORERS.get("anls").score(" ", "x").how == "empty"
