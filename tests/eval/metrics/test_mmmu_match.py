"""MMMU's open answers, and its two kinds of questions."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm_eval.metrics import SCORERS, mmmu_match
from taid_vlm_eval.metrics.mmmu import mmmu_open


@pytest.mark.parametrize(
    ("answer", "truth", "value"),
    [
        ("3", "3", 1),
        ("3.0", "3", 1),
        ("3.001", "3", 1),  # two places
        ("3.01", "3", 0),
        ("3.", "3", 1),
        ("1,000", "1000", 1),
        ("1000", "1,000", 1),
        ("-4.25", "-4.25", 1),
        ("4.25", "-4.25", 0),
        ("2.5e3", "2500", 1),
        ("The answer is 3", "3", 1),
        ("The answer is 3.", "3", 1),
        ("The answer is 3 cm", "3", 1),
        ("it is $3", "3", 1),
        ("it is 3%", "3", 1),
        ("it is 33", "3", 0),
        ("it is 3 or 4", "3", 1),  # any number in the key phrase
        ("3 is the answer 4", "3", 0),  # the key phrase is what follows "answer"
        ("x = 3", "3", 1),
        ("x = 3\nso y", "3", 0),  # "=" counts in the last line only
        ("x is 3\nso y", "3", 1),  # every line with a key
        ("so x is 3 therefore y is 4", "4", 1),
        ("so x is 3 therefore y is 4", "3", 0),
        ("result 7", "7", 1),
        ("could be 7", "7", 1),
        ("it is not 7", "7", 1),  # the rule sees no negation
        ("it is minus 7", "-7", 0),
        ("seven", "7", 0),
        ("dog", "dog", 1),
        ("Dog", "dog", 1),
        ("a big dog barks", "dog", 1),
        ("hotdog", "dog", 1),  # inside a word, too
        ("do", "dog", 0),
        ("the answer is a cat", "dog", 0),
        ("dog, but the answer is a cat", "dog", 0),
        ("cat", ["dog", "cat"], 1),
        ("5", ["dog", "5"], 1),
        ("a", "a", 1),  # one letter must have a space beside it, and a bare one has
        ("it is option a here", "a", 1),
        ("banana", "a", 0),
        ("", "dog", 0),
        ("", "", 0),
        ("  \n", "3", 0),
        (".", "3", 0),
        ("nan", "nan", 0),
        ("\N{GREEK SMALL LETTER PI}/2", "\N{GREEK SMALL LETTER PI}/2", 1),
        ("1/2", "0.5", 0),
        ("A", "Other Answers", 0),  # a bare letter is no open answer
    ],
)
def test_open_answers(answer: str, truth: str | list[str], value: int) -> None:
    assert mmmu_open(answer, truth) == value
    assert mmmu_match(answer, truth, question_type="open", mode="mmmu") == value


def test_a_bare_letter_is_no_open_answer() -> None:
    """VLMEvalKit makes A the gold answer of every open question, and so takes the letter for it."""
    assert mmmu_match("A", "42", question_type="open") == 0.0


@pytest.mark.parametrize(
    ("answer", "default", "mmmu"),
    [
        ("B", 1, 1),
        ("b", 1, 0),
        ("B. cat", 1, 0),
        ("B)", 1, 0),
        ("**C**", 0, 0),
        ("(B)", 1, 1),
        ("A or B", 0, 1),
        ("", 0, 0),
    ],
)
def test_choices_by_default_and_by_the_authors(answer: str, default: int, mmmu: int) -> None:
    options = ["dog", "cat", "bird", "elk"]
    assert mmmu_match(answer, "B", options=options) == default
    assert mmmu_match(answer, "B", options=options, mode="mmmu") == mmmu


def test_scoring_draws_no_random_number() -> None:
    random.seed(7)
    before = random.getstate()
    scores = [mmmu_match("no idea", letter, options=["1", "2", "3", "4"], mode="mmmu") for letter in "ABCD"]
    assert scores == [0, 0, 0, 0]
    assert random.getstate() == before


@given(st.text(max_size=40), st.text(max_size=8), st.sampled_from(["open", "multiple-choice"]))
def test_bounds_and_readings(answer: str, truth: str, kind: str) -> None:
    score = SCORERS.get("mmmu").score(answer, truth, question_type=kind, mode="mmmu")
    assert score.value in (0.0, 1.0)
    assert score.how in SCORERS.get("mmmu").readings


@pytest.mark.parametrize(
    "answer",
    ["1" * 100_000, "1" * 100_000 + "x", "1." * 50_000, "111," * 25_000 + "x", "is " * 33_000, "so\n" * 33_000],
)
def test_very_long_answers_are_quick(answer: str) -> None:
    start = time.perf_counter()
    mmmu_open(answer, "42")
    assert time.perf_counter() - start < 3
