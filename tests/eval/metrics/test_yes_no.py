"""Yes or no, in the ways of POPE, MME and VLMEvalKit, and by default."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm_eval.metrics import SCORERS, read_yes_no, yes_no
from taid_vlm_eval.metrics.yes_no import MODES

# answer, default, POPE, MME, VLMEvalKit
CASES = [
    ("yes", "yes", "yes", "yes", "yes"),
    ("Yes", "yes", "yes", "yes", "yes"),
    ("YES", "yes", "yes", "yes", "yes"),
    ("Yes.", "yes", "yes", "yes", "yes"),
    (" yes\n", "yes", "yes", "yes", "yes"),
    ("(yes)", "yes", "yes", "yes", "yes"),
    ("**Yes**", "yes", "yes", None, None),  # "**ye" there; "*" is no punctuation here
    ("no", "no", "no", "no", "no"),
    ("No", "no", "no", "no", "no"),
    ("NO", "no", "yes", "no", "no"),  # POPE's script knows "No" and "no" only
    ("No!", "no", "yes", "no", "no"),
    ("No.", "no", "no", "no", "no"),
    ("No,", "no", "no", "no", "no"),
    ("no\n", "no", "yes", "no", "no"),  # it splits at spaces only
    ("Yes, there is a dog.", "yes", "yes", "yes", "yes"),
    ("Yes, there is no dog", "yes", "no", "yes", None),
    ("No, there is none.", "no", "no", "no", "no"),
    ("No - I see none", "no", "no", "no", "no"),
    ("There is no dog", "no", "no", None, "no"),
    ("There is not a dog", None, "no", None, None),
    ("There is a dog", None, "yes", None, None),
    ("There is a dog. No.", "no", "yes", None, "no"),  # only the first sentence counts there
    ("The answer is yes.", "yes", "yes", None, "yes"),
    ("answer: no", "no", "no", None, "no"),
    ("Yes and no", None, "no", "yes", None),
    ("yes or no", None, "no", "yes", None),
    ("yes/no", None, "yes", "yes", None),
    ("Yes\nno", None, "yes", "yes", None),
    ("no yes", None, "no", "no", None),
    ("not yes", None, "no", "no", "yes"),
    ("I wouldn't say yes", None, "yes", None, "yes"),
    ("nope", None, "yes", "no", None),
    ("know", None, "yes", "no", None),
    ("none", None, "yes", "no", None),
    ("yesterday", None, "yes", "yes", None),
    ("no-one", None, "yes", "no", "no"),  # the hyphen is a space for VLMEvalKit, and "no one" has a no
    ("I don't know", None, "yes", None, None),
    ("eyes", None, "yes", "yes", None),
    ("yes yes", "yes", "yes", "yes", "yes"),
    ("maybe", None, "yes", None, None),
    ("1", None, "yes", None, None),
    ("\N{FULLWIDTH LATIN SMALL LETTER Y}\N{FULLWIDTH LATIN SMALL LETTER E}s", None, "yes", None, None),
    ("...", None, "yes", None, None),
    ("", None, "yes", None, None),
    (" \n", None, "yes", None, None),
]


@pytest.mark.parametrize(("answer", "default", "pope", "mme", "vlmevalkit"), CASES)
def test_how_an_answer_is_read(
    answer: str, default: str | None, pope: str, mme: str | None, vlmevalkit: str | None
) -> None:
    assert tuple(read_yes_no(answer, mode=mode)[0] for mode in MODES) == (default, pope, mme, vlmevalkit)
    for truth in ("yes", "No"):
        assert yes_no(answer, truth) == float(default == truth.lower())


def test_an_empty_answer_is_read_as_empty() -> None:
    assert SCORERS.get("yes_no").score("", "no").how == "empty"
    assert SCORERS.get("yes_no").score("", "yes", mode="pope").value == 1.0  # as their script has it


@given(st.sampled_from(["yes", "no"]), st.text(" .!*_\"'()\n", max_size=6), st.text(" .!*_\"'()\n", max_size=6))
def test_case_and_marks_do_not_count(word: str, before: str, after: str) -> None:
    assert read_yes_no(before + word + after) == read_yes_no(before + word.upper() + after) == (word, "strict")


@given(st.text(max_size=40), st.sampled_from(MODES))
def test_it_is_one_of_three(answer: str, mode: str) -> None:
    word, how = read_yes_no(answer, mode=mode)
    assert word in ("yes", "no", None)
    assert how in SCORERS.get("yes_no").readings
    assert yes_no(answer, "yes", mode=mode) + yes_no(answer, "no", mode=mode) == float(word is not None)


@pytest.mark.parametrize(
    "answer",
    ["yes no " * 14_000, "n't " * 25_000 + "yes", "a" * 100_000 + "n't yes", "*_" * 50_000 + "yes", "x " * 50_000],
)
@pytest.mark.parametrize("mode", MODES)
def test_very_long_answers_are_quick(answer: str, mode: str) -> None:
    start = time.perf_counter()
    read_yes_no(answer, mode=mode)
    assert time.perf_counter() - start < 1
