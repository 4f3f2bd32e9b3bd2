"""Exact match: what counts as equal, what is forgiven, and what never is."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm_eval.metrics import exact_match, match_kind, normalise

words = st.text(st.characters(categories=["Ll", "Nd"], max_codepoint=0x17F), min_size=1, max_size=8).filter(
    lambda text: text == normalise(text)
)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("red", "strict"),
        ("Red", "strict"),
        ("  RED \n", "strict"),
        ("red.", "strict"),
        ("red .", "strict"),
        ('"red"', "lenient"),
        ("**Red**.", "lenient"),
        ("red!", "lenient"),
        ("red..", "lenient"),
        ("answer: red", "lenient"),
        ("Answer:red", "lenient"),
        ("**Answer: red**", "lenient"),
        ("Answer: **red**", "lenient"),
        ("The answer is red.", "lenient"),
        ("the final answer is: red", "lenient"),
        ("It's red", "lenient"),
        ("It is red.", "lenient"),
        ("red\nbecause it looks so", "lenient"),
        ("\n\nred\n", "strict"),
        ("\n\nred\nas it looks", "lenient"),
        ("red or blue", "none"),
        ("not red", "none"),
        ("the red one", "none"),
        ("redd", "none"),
        ("re d", "none"),
        ("blue", "none"),
        ("answer: blue", "none"),
        ("blue\nred", "none"),
        ("Its red", "none"),
        (".", "none"),
        ('""', "none"),
        ("", "empty"),
        (" \n\t", "empty"),
    ],
)
def test_how_an_answer_matches_red(answer: str, kind: str) -> None:
    assert match_kind(answer, "red") == kind
    assert exact_match(answer, "red") == float(kind in ("strict", "lenient"))


def test_white_space_inside_counts_as_one_space() -> None:
    assert match_kind("light \t\n blue", "Light  Blue.") == "strict"


def test_numbers_are_not_interpreted() -> None:
    assert match_kind("1.0", "1") == "none"
    assert match_kind("two", "2") == "none"
    assert match_kind("1.", "1") == "strict"
    assert match_kind("\N{FULLWIDTH DIGIT ONE}", "1") == "none"


def test_composed_and_decomposed_letters_are_equal() -> None:
    assert match_kind("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}") == "strict"


def test_any_of_several_truths_counts() -> None:
    assert match_kind("grey", ["gray", "grey"]) == "strict"
    assert match_kind("'grey'", ["gray", "grey"]) == "lenient"
    assert match_kind("green", ["gray", "grey"]) == "none"
    assert match_kind("grey", []) == "none"


def test_an_empty_truth_is_never_matched() -> None:
    assert match_kind("", "") == "empty"
    assert match_kind("!!", "") == "none"


@given(words)
def test_case_spaces_and_one_full_stop_are_strict(truth: str) -> None:
    assert match_kind(f"  {truth.upper().lower()}. ", truth.upper().lower()) == "strict"


@given(words, st.text("\"'`*_()[] ", max_size=4), st.text("\"'`*_()[] .,;:!?", max_size=4))
def test_wrapping_is_forgiven(truth: str, before: str, after: str) -> None:
    assert exact_match(before + truth + after, truth) == 1.0


@given(words, words, st.sampled_from([" ", " or ", ", ", "/", "-"]))
def test_a_longer_answer_never_matches_by_containment(truth: str, more: str, between: str) -> None:
    assert exact_match(truth + between + more, truth) == 0.0
    if f"{more}{between}".strip() not in ("answer:", "the answer is", "it is"):
        assert exact_match(more + between + truth, truth) == 0.0


@given(st.text(), st.text())
def test_any_text_gets_a_kind_and_an_equal_one_is_strict(answer: str, truth: str) -> None:
    assert match_kind(answer, truth) in ("strict", "lenient", "none", "empty")
    assert match_kind(answer, answer) == ("strict" if answer.strip() else "empty")
    assert match_kind(unicodedata.normalize("NFD", answer), answer) == match_kind(answer, answer)
