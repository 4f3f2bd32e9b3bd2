"""OCRBench: the text stands in the answer; points add up anew for each set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm_eval.metrics import METRICS, SCORERS, Scored, ocrbench

WIDE = "\N{FULLWIDTH LATIN CAPITAL LETTER A}\N{FULLWIDTH DIGIT ONE}"


@pytest.mark.parametrize(
    ("answer", "truth", "official", "lmms", "formula"),
    [
        ("STOP", "stop", 1, 1, 0),
        ("stop", "STOP", 1, 1, 0),
        ("stop", "stop", 1, 1, 1),
        ("The sign says STOP.", "stop", 1, 1, 0),
        ("The sign says stop.", "stop", 1, 1, 1),
        ("unstoppable", "stop", 1, 1, 1),
        ("not stop", "stop", 1, 1, 1),
        ("stop or go", "go", 1, 1, 1),
        ("st op", "stop", 0, 0, 1),
        ("stop", "st op", 0, 0, 1),
        ("st\nop", "st op", 1, 1, 1),
        ("st op", "st\nop", 1, 1, 1),
        ("st\nop", "stop", 0, 0, 1),
        ("sto", "stop", 0, 0, 0),
        (" stop ", "stop", 1, 1, 1),
        ("stop", " stop ", 1, 1, 1),
        ("go", ["stop", "go"], 1, 1, 1),
        ("go", ["stop", "Go"], 1, 1, 0),
        ("x", ["stop", "go"], 0, 0, 0),
        ("", "stop", 0, 0, 0),
        (" \n", "stop", 0, 0, 0),
        ("stop", "", 0, 0, 0),  # nothing stands in everything
        ("stop", ["", "stop"], 1, 1, 1),
        ("stop", [], 0, 0, 0),
        ("$12.50", "12.50", 1, 1, 1),
        ("1,000", "1000", 0, 0, 0),
        ("12 %", "12%", 0, 0, 1),
        ("100 ml", "100ml", 0, 0, 1),
        ("A1", WIDE, 0, 1, 0),
        (WIDE, "a1", 0, 1, 0),
        (WIDE, WIDE, 1, 1, 1),
        ("a\N{IDEOGRAPHIC SPACE}b", "a b", 0, 1, 0),
        ("CAF\N{LATIN CAPITAL LETTER E WITH ACUTE}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", 1, 1, 0),
        ("\N{HIRAGANA LETTER A}\N{HIRAGANA LETTER I}", "\N{HIRAGANA LETTER I}", 1, 1, 1),
        ("\\frac { a } { b }", "\\frac{a}{b}", 0, 0, 1),
        ("\\frac{A}{b}", "\\frac{a}{b}", 1, 1, 0),
        ("x ^ 2", "x^2", 0, 0, 1),
        ("X^2", "x^2", 1, 1, 0),
        ("stop\tgo", "stop go", 0, 0, 0),
        ("555-0199", "5550199", 0, 0, 0),
        ("Total: 7", "7", 1, 1, 1),
        ("77", "7", 1, 1, 1),
    ],
)
def test_a_right_text_stands_in_the_answer(
    answer: str, truth: str | list[str], official: int, lmms: int, formula: int
) -> None:
    assert ocrbench(answer, truth) == official
    assert ocrbench(answer, truth, mode="lmms") == lmms
    assert (
        ocrbench(answer, truth, dataset="HME100k") == ocrbench(answer, truth, dataset="HME100k", mode="lmms") == formula
    )


@given(st.text(max_size=10), st.text(max_size=5), st.text("abC 1", min_size=1, max_size=10).filter(str.strip))
def test_more_text_around_does_not_hurt(before: str, after: str, truth: str) -> None:
    assert ocrbench(f"{before} {truth.strip()} {after}", truth) == 1.0


def test_very_long_answers_are_quick() -> None:
    assert ocrbench("x " * 50_000, "y") == 0.0


def points_of_one_of_two() -> float:
    scored = []
    for number, answer in enumerate(["stop", "go"]):
        score = SCORERS.get("ocrbench").apply(answer, "stop", {"dataset": "SVT"})
        scored.append(Scored(str(number), str(number), answer, "stop", score.value, facts={"category": "Regular"}))
    return METRICS.get("ocrbench")(scored, 0).value


def test_a_second_evaluation_in_one_process_starts_at_zero() -> None:
    assert [points_of_one_of_two() for _ in range(3)] == [1.0, 1.0, 1.0]


def test_points_of_types_add_up() -> None:
    kinds = ["KIE"] * 4 + ["HMER"] * 2
    values = [1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    scored = [
        Scored(str(i), str(i), "", "", value, facts={"category": kind})
        for i, (value, kind) in enumerate(zip(values, kinds, strict=True))
    ]
    estimate = METRICS.get("ocrbench")(scored, 0)
    assert (estimate.value, estimate.top) == (4.0, 6.0)
    assert estimate.named["accuracy"].value == pytest.approx(4 / 6)
    assert [estimate.named[f"type/{kind}"].value for kind in ("HMER", "KIE")] == [1.0, 3.0]
    assert estimate.low < 4.0 < estimate.high <= 6.0
