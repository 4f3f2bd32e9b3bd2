"""ROUGE-L beside the package of the field, and the quick subsequence beside the plain table."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm_eval.metrics import rouge_l
from taid_vlm_eval.metrics.rouge import lcs_length

ODD = [
    ("", ""),
    ("", "a reply"),
    ("a reply", ""),
    ("...", "a reply"),
    ("The cat sat.", "the cat, sat"),
    ("don't stop", "dont stop"),
    ("state-of-the-art", "state of the art"),
    ("na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve caf\N{LATIN SMALL LETTER E WITH ACUTE}", "naive cafe"),
    ("3.14 is pi", "3 14 is PI"),
    ("snake_case", "snake case"),
    ("\N{HIRAGANA LETTER A}\N{HIRAGANA LETTER I}", "\N{HIRAGANA LETTER A}\N{HIRAGANA LETTER I}"),
    ("\N{KELVIN SIGN} is a unit", "k is a unit"),
    ("a a a a", "a"),
    ("a b c d", "d c b a"),
    ("line one\nline two", "line two line one"),
]


def random_pairs(count: int) -> list[tuple[str, str]]:
    draw = random.Random(0)
    vocabulary = ["the", "a", "Cat", "dog", "sat", "on", "mat,", "RED", "blue!", "42", "it's", "running", "runs"]

    def text() -> str:
        return " ".join(draw.choices(vocabulary, k=draw.randint(1, 40)))

    return [(text(), text()) for _ in range(count)]


@pytest.mark.parametrize(("answer", "truth"), ODD + random_pairs(60))
def test_equals_the_rouge_score_package(answer: str, truth: str) -> None:
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    expected = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False).score(truth, answer)["rougeL"].fmeasure
    assert rouge_l(answer, truth) == pytest.approx(expected, abs=1e-12)


def table_lcs(first: Sequence[str], second: Sequence[str]) -> int:
    """The plain twin: the table of every textbook."""
    above = [0] * (len(second) + 1)
    for one in first:
        row = [0]
        for index, other in enumerate(second):
            row.append(above[index] + 1 if one == other else max(above[index + 1], row[index]))
        above = row
    return above[-1]


tokens = st.lists(st.sampled_from("abcd"), max_size=90)  # beyond one machine word


@given(tokens, tokens)
def test_the_subsequence_is_that_of_the_table(first: list[str], second: list[str]) -> None:
    assert lcs_length(first, second) == table_lcs(first, second)


@given(tokens, tokens)
def test_score_is_symmetric_and_in_range(first: list[str], second: list[str]) -> None:
    one, other = " ".join(first), " ".join(second)
    score = rouge_l(one, other)
    assert 0.0 <= score <= 1.0
    assert score == pytest.approx(rouge_l(other, one))
    assert (score == 1.0) == (first == second and bool(first))


def test_the_best_of_several_references_counts() -> None:
    assert rouge_l("a b", ["c d", "a b", "a x"]) == 1.0
    assert rouge_l("a b", ["a x", "c d"]) == pytest.approx(0.5)
    assert rouge_l("a b", []) == 0.0


def test_thousands_of_words_are_quick() -> None:
    draw = random.Random(1)
    long = [draw.choice("abcdefgh") for _ in range(20_000)]
    # The table would need 400 million steps.
    assert lcs_length(long, long[::2]) == 10_000
