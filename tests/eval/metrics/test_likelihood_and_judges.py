"""The likeliest option, and what a judge's reply says."""

import pytest

from taid_vlm_eval.metrics import likeliest, mm_vet_grade, mt_bench_rating


def test_the_likeliest_option_in_three_norms() -> None:
    values, texts = [-4.0, -6.0, -5.0], ["ab", "abcdef", "\N{HIRAGANA LETTER A}" * 3]
    assert likeliest(values) == 0
    assert likeliest(values, texts, norm="characters") == 1  # -2, -1, -1.67
    assert likeliest([-4.0, -6.0, -2.5], texts, norm="characters") == 2  # -2, -1, -0.83
    assert likeliest([-4.0, -6.0, -9.5], texts, norm="bytes") == 1  # -2, -1, -1.06


def test_of_equal_ones_the_first_and_an_impossible_one_never() -> None:
    assert likeliest([-1.0, -1.0]) == 0
    assert likeliest([float("-inf"), -50.0]) == 1


@pytest.mark.parametrize("values", [[], [float("nan"), 1.0]])
def test_what_is_no_likelihood_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="need one log-likelihood"):
        likeliest(values)


def test_a_norm_needs_texts() -> None:
    with pytest.raises(ValueError, match="needs the text of each of the 2"):
        likeliest([-1.0, -2.0], ["a"], norm="bytes")


@pytest.mark.parametrize(
    ("reply", "grade"),
    [("0.5", 0.5), ("1.0", 1.0), ("1", 1.0), ("0", 0.0), (" 0.8\n", 0.8), ("| 0.7 |", 0.7), ("Correctness: 0.3", 0.3),
     ("2.0", None), ("10", None), ("0.5.1", None), ("", None), ("none", None), ("1.5", None), ("1 of 2 parts, so 0.5", None), ("0.5 or rather 0.5", 0.5)],
)  # fmt: skip
def test_grades_of_mm_vet(reply: str, grade: float | None) -> None:
    assert mm_vet_grade(reply) == grade


@pytest.mark.parametrize(
    ("reply", "rating"),
    [("Rating: [[7]]", 7.0), ("[[7.5]] of 10", 7.5), ("[8]", 8.0), ("[3] then [[9]]", 9.0), ("[[10]]", 10.0),
     ("[[0]]", None), ("[[11]]", None), ("7", None), ("", None), ("[[x]]", None)],
)  # fmt: skip
def test_ratings_of_mt_bench(reply: str, rating: float | None) -> None:
    assert mt_bench_rating(reply) == rating
