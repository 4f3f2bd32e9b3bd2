"""Relaxed accuracy: five percent, and what is a number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm_eval.metrics import SCORERS, relaxed_accuracy
from taid_vlm_eval.metrics.charts import MODES


@pytest.mark.parametrize(
    ("answer", "truth", "how", "official"),
    [
        ("100", "100", "strict", 1),
        ("105", "100", "strict", 1),
        ("95", "100", "strict", 1),
        ("105.1", "100", "none", 0),
        ("94.9", "100", "none", 0),
        ("100", "105.3", "none", 0),  # five percent of the truth, not of the answer
        ("-100", "100", "none", 0),
        ("-5.2", "-5", "strict", 1),
        ("+5", "5", "strict", 1),
        ("1e3", "1000", "strict", 1),
        ("2.1", "2", "strict", 0),  # 0.1 / 2 is 0.05 but for rounding, which the definition does not mean
        (".5", "0.5", "strict", 1),
        ("5.", "5", "strict", 1),
        ("0", "0", "strict", 1),
        ("0.0", "0", "strict", 0),  # a truth of zero is compared as text there
        ("0.01", "0", "none", 0),
        ("12%", "12%", "strict", 1),
        ("12%", "0.12", "strict", 1),
        ("0.12", "12%", "strict", 1),
        ("12%", "12", "none", 0),
        ("12", "12%", "none", 0),
        ("12 %", "12%", "lenient", 1),
        ("Yes", "yes", "strict", 1),
        ("yes", "Yes", "strict", 1),
        (" yes \n", "yes", "strict", 1),
        ("Yes.", "yes", "lenient", 0),
        ("**Yes**", "yes", "lenient", 0),
        ("no", "yes", "none", 0),
        ("yes or no", "yes", "none", 0),
        ("not 100", "100", "none", 0),
        ("100 or 200", "100", "none", 0),
        ("100, 200", "100", "none", 0),
        ("1,000", "1000", "lenient", 0),
        ("1,040", "1000", "lenient", 0),
        ("1,100", "1000", "none", 0),
        ("10,00", "1000", "none", 0),
        ("1000", "1,000", "lenient", 0),
        ("1,000", "1,000", "strict", 1),
        ("$1,234.5", "1234.5", "lenient", 0),
        ("\N{EURO SIGN}5", "5", "lenient", 0),
        ("-$5", "-5", "lenient", 0),
        ("12 million", "12", "none", 0),
        ("12 apples", "12", "none", 0),
        ("12 apples", "12 apples", "strict", 1),
        ("The answer is 103.", "100", "lenient", 0),
        ("Answer: 12%", "12%", "lenient", 0),
        ("100\nbecause it is", "100", "lenient", 0),
        ("nan", "5", "none", 0),
        ("nan", "nan", "strict", 0),  # two texts here, two numbers that are never equal there
        ("inf", "5", "none", 0),
        ("1_000", "1000", "none", 1),
        ("\N{FULLWIDTH DIGIT FIVE}", "5", "none", 1),
        ("five", "5", "none", 0),
        ("", "5", "empty", 0),
        (" ", "", "empty", 0),
        ("%", "5", "none", 0),
        ("5%%", "0.05", "none", 1),
        ("2019", "2010", "strict", 1),  # years too: a known weakness of the definition
        ("\N{HIRAGANA LETTER A}", "\N{HIRAGANA LETTER A}", "strict", 1),
    ],
)
def test_how_an_answer_is_read(answer: str, truth: str, how: str, official: int) -> None:
    score = SCORERS.get("relaxed_accuracy").score(answer, truth)
    assert (score.how, score.value) == (how, float(how in ("strict", "lenient")))
    assert relaxed_accuracy(answer, truth, mode="official") == official


def test_any_of_several_truths_counts() -> None:
    assert relaxed_accuracy("104", ["7", "100"]) == 1.0
    assert relaxed_accuracy("110", ["7", "100"]) == 0.0


@given(st.integers(1, 10**9), st.floats(-0.2, 0.2).filter(lambda change: abs(abs(change) - 0.05) > 1e-6))
def test_five_percent_of_any_number(truth: int, change: float) -> None:
    answer = f"{truth * (1 + change):.12f}"
    if abs(abs(change) - 0.05) > 1e-6:
        assert relaxed_accuracy(answer, str(truth)) == float(abs(change) < 0.05)


@given(st.text(max_size=10), st.text(max_size=10), st.sampled_from(MODES))
def test_bounds(answer: str, truth: str, mode: str) -> None:
    assert relaxed_accuracy(answer, truth, mode=mode) in (0.0, 1.0)


@given(st.text("abc1.,%$ ", max_size=10), st.text("abc1.,%$ ", max_size=10))
def test_what_is_right_strictly_stays_right_in_any_case(answer: str, truth: str) -> None:
    assert relaxed_accuracy(answer.upper(), truth) == relaxed_accuracy(answer, truth.upper())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("answer", ["1" * 100_000, "1," * 50_000, "x" * 100_000, "(" * 100_000, "1." * 50_000])
def test_very_long_answers_are_wrong_and_quick(answer: str, mode: str) -> None:
    assert relaxed_accuracy(answer, "11", mode=mode) == 0.0
