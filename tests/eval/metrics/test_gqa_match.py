"""Exact match in the ways that GQA's evaluations have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm_eval.metrics import exact_match, gqa_match
from taid_vlm_eval.metrics.gqa import MODES


@pytest.mark.parametrize(
    ("answer", "truth", "scores"),
    [
        # default, official, llava, lmms, vlmevalkit
        ("dog", "dog", (1, 1, 1, 1, 1)),
        ("Dog", "dog", (1, 0, 1, 1, 1)),
        ("DOG", "dog", (1, 0, 1, 1, 1)),
        ("dog.", "dog", (1, 0, 1, 1, 0)),
        ("Dog.", "dog", (1, 0, 1, 1, 0)),
        ("dog..", "dog", (1, 0, 0, 1, 0)),
        ("dog!", "dog", (1, 0, 0, 1, 0)),
        ("dog ", "dog", (1, 0, 0, 0, 1)),
        (" dog", "dog", (1, 0, 0, 0, 1)),
        ("dog\n", "dog", (1, 0, 0, 0, 1)),
        ("dog. ", "dog", (1, 0, 0, 0, 0)),
        ("dog .", "dog", (1, 0, 0, 0, 0)),
        ("t-shirt", "tshirt", (0, 0, 0, 1, 0)),
        ("t-shirt", "t-shirt", (1, 1, 1, 1, 1)),
        ("T-Shirt.", "t-shirt", (1, 0, 1, 1, 0)),
        ("**dog**", "dog", (1, 0, 0, 1, 0)),
        ('"dog"', "dog", (1, 0, 0, 1, 0)),
        ("(dog)", "dog", (1, 0, 0, 1, 0)),
        ("The answer is dog", "dog", (1, 0, 0, 0, 0)),
        ("Answer: dog", "dog", (1, 0, 0, 0, 0)),
        ("a dog", "dog", (0, 0, 0, 0, 0)),
        ("the dog", "dog", (0, 0, 0, 0, 0)),
        ("dogs", "dog", (0, 0, 0, 0, 0)),
        ("hotdog", "dog", (0, 0, 0, 0, 0)),
        ("not dog", "dog", (0, 0, 0, 0, 0)),
        ("dog or cat", "dog", (0, 0, 0, 0, 0)),
        ("dog, cat", "dog", (0, 0, 0, 0, 0)),
        ("dog\nIt barks.", "dog", (1, 0, 0, 0, 0)),
        ("cat\ndog", "dog", (0, 0, 0, 0, 0)),
        ("", "dog", (0, 0, 0, 0, 0)),
        ("", "", (0, 0, 0, 0, 0)),
        (".", "", (0, 0, 1, 1, 0)),
        ("1", "one", (0, 0, 0, 0, 0)),
        ("one", "one", (1, 1, 1, 1, 1)),
        ("1,000", "1000", (0, 0, 0, 1, 0)),
        ("50%", "50", (0, 0, 0, 1, 0)),
        ("5 cm", "5", (0, 0, 0, 0, 0)),
        ("Yes", "yes", (1, 0, 1, 1, 1)),
        ("yes", "no", (0, 0, 0, 0, 0)),
        ("light  blue", "light blue", (1, 0, 0, 0, 0)),
        ("\N{HIRAGANA LETTER A}", "\N{HIRAGANA LETTER A}", (1, 1, 1, 1, 1)),
        ("CAF\N{LATIN CAPITAL LETTER E WITH ACUTE}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", (1, 0, 1, 1, 1)),
    ],
)
def test_where_the_ways_differ(answer: str, truth: str, scores: tuple[int, ...]) -> None:
    assert tuple(gqa_match(answer, truth, mode=mode) for mode in MODES) == scores


@given(st.text(max_size=12), st.text(max_size=12))
def test_the_default_is_exact_match_and_the_official_one_equality(answer: str, truth: str) -> None:
    assert gqa_match(answer, truth) == exact_match(answer, truth)
    assert gqa_match(answer, truth, mode="official") == float(answer == truth and bool(answer.strip()))


@given(st.text("abC. ", min_size=1, max_size=8), st.sampled_from(MODES[2:]))
def test_case_does_not_count(truth: str, mode: str) -> None:
    assert gqa_match(truth.upper(), truth.lower(), mode=mode) == gqa_match(truth.lower(), truth.lower(), mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_very_long_answer_is_wrong_and_quick(mode: str) -> None:
    assert gqa_match("dog " * 25_000, "dog", mode=mode) == 0.0
    assert gqa_match("dog" + ".)" * 50_000, "cat", mode=mode) == 0.0
