"""Numbers at the end: GSM8K and MathVista by rule."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm_eval.metrics import SCORERS, gsm8k, mathvista_rule
from taid_vlm_eval.metrics.gsm8k import MODES
from taid_vlm_eval.metrics.statements import last_boxed, last_statement


@pytest.mark.parametrize(
    ("answer", "truth", "how", "default", "strict", "flexible"),
    [
        ("#### 18", "18", "strict", 1, 1, 1),
        ("3 + 15 = 18\n#### 18", "18", "strict", 1, 1, 1),
        ("#### 18", "He has 3 + 15 = 18.\n#### 18", "strict", 1, 1, 1),
        ("#### 18.", "18", "strict", 1, 1, 1),
        ("#### $18", "18", "strict", 1, 0, 1),
        ("####18", "18", "strict", 1, 0, 1),
        ("#### 1,000", "1000", "strict", 1, 1, 1),
        ("#### 1000", "1,000", "strict", 1, 1, 1),
        ("#### -18", "-18", "strict", 1, 1, 1),
        ("#### -18", "18", "strict", 0, 0, 0),
        ("#### 18.0", "18", "strict", 1, 0, 0),
        ("#### 18.5", "18", "strict", 0, 0, 0),
        ("#### 17\n#### 18", "18", "strict", 0, 0, 1),  # the first mark counts
        ("#### 18 of 20", "18", "strict", 1, 1, 0),
        ("#### x", "18", "none", 0, 0, 0),
        ("18", "18", "flexible", 1, 0, 1),
        (" 18 \n", "18", "flexible", 1, 0, 1),
        ("18.", "18", "flexible", 1, 0, 1),
        ("18.00", "18", "flexible", 1, 0, 0),
        ("The answer is 18", "18", "flexible", 1, 0, 1),
        ("The answer is $18.", "18", "flexible", 1, 0, 1),
        ("The answer is **18**", "18", "flexible", 1, 0, 1),
        ("18 apples", "18", "flexible", 1, 0, 1),
        ("18 of 20", "18", "flexible", 0, 0, 0),  # the last number
        ("It is 18, I think", "18", "flexible", 1, 0, 1),
        ("It is 18 , .", "18", "flexible", 1, 0, 1),
        ("It is 18 ,.", "18", "flexible", 1, 0, 0),  # ",." is like a number to the harness
        ("It is 18...", "18", "flexible", 1, 0, 0),
        ("so 3+15=18", "18", "flexible", 1, 0, 1),
        ("20-2", "-2", "flexible", 1, 0, 1),  # its minus is any minus
        ("18%", "18", "flexible", 1, 0, 1),
        ("3/4", "0.75", "flexible", 0, 0, 0),
        ("1.8e1", "18", "flexible", 0, 0, 0),
        ("17 or 18", "17", "flexible", 0, 0, 0),
        ("not 18", "18", "flexible", 1, 0, 1),  # the rule sees no negation
        ("1 8", "18", "flexible", 0, 0, 0),
        ("eighteen", "18", "none", 0, 0, 0),
        ("no number", "18", "none", 0, 0, 0),
        ("\N{FULLWIDTH DIGIT ONE}\N{FULLWIDTH DIGIT EIGHT}", "18", "none", 0, 0, 0),
        ("", "18", "empty", 0, 0, 0),
        (" \n", "18", "empty", 0, 0, 0),
        ("18", ["17", "18"], "flexible", 1, 0, 1),
    ],
)
def test_gsm8k(answer: str, truth: str | list[str], how: str, default: int, strict: int, flexible: int) -> None:
    assert tuple(gsm8k(answer, truth, mode=mode) for mode in MODES) == (default, strict, flexible)
    assert SCORERS.get("gsm8k").score(answer, truth).how == how


@given(
    st.integers(-(10**9), 10**9), st.sampled_from(["{}", "{:,}", "so it is {}.", "#### {}", "#### {:,}", "{} apples"])
)
def test_gsm8k_reads_every_whole_number(number: int, form: str) -> None:
    assert gsm8k(form.format(number), str(number)) == 1.0
    assert gsm8k(form.format(number), str(number + 1)) == 0.0


@pytest.mark.parametrize(
    ("answer", "truth", "facts", "default", "official"),
    [
        ("5", "5", {"answer_type": "integer"}, 1, 1),
        ("5.0", "5", {"answer_type": "integer"}, 1, 1),
        ("5.6", "5", {"answer_type": "integer"}, 0, 1),  # the authors cut
        ("-7", "-7", {"answer_type": "integer"}, 1, 1),
        ("7", "-7", {"answer_type": "integer"}, 0, 0),
        ("1,200", "1200", {"answer_type": "integer"}, 1, 1),
        ("12 cm", "12", {"answer_type": "integer"}, 1, 1),
        ("$12", "12", {"answer_type": "integer"}, 1, 1),
        ("50%", "50", {"answer_type": "integer"}, 1, 1),
        ("The answer is 12.", "12", {"answer_type": "integer"}, 1, 1),
        ("The answer is 12. I counted 3 times.", "12", {"answer_type": "integer"}, 0, 0),  # the last on that line
        ("\\boxed{12} in 3 steps", "12", {"answer_type": "integer"}, 1, 1),
        ("x = 3, so y = 7", "7", {"answer_type": "integer"}, 1, 1),
        ("3 or 7", "3", {"answer_type": "integer"}, 0, 0),
        ("two", "2", {"answer_type": "integer"}, 0, 0),
        ("nan", "2", {"answer_type": "integer"}, 0, 0),
        ("", "0", {"answer_type": "integer"}, 0, 0),
        ("none", "0", {"answer_type": "integer"}, 0, 0),
        ("0.6", "0.6", {"answer_type": "float", "precision": 1}, 1, 1),
        ("0.60", "0.6", {"answer_type": "float", "precision": 1}, 1, 1),
        ("0.6", "0.60", {"answer_type": "float", "precision": 2}, 1, 0),  # texts are compared there
        ("0.62", "0.6", {"answer_type": "float", "precision": 1}, 1, 1),
        ("0.66", "0.6", {"answer_type": "float", "precision": 1}, 0, 0),
        (".6", "0.6", {"answer_type": "float", "precision": 1}, 1, 1),
        ("1.234", "1.23", {"answer_type": "float", "precision": 2.0}, 1, 1),
        ("about 1.23 m", "1.23", {"answer_type": "float", "precision": 2}, 1, 1),
        ("[1, 2]", "[1, 2]", {"answer_type": "list"}, 1, 1),
        ("[1,2]", "[1, 2]", {"answer_type": "list"}, 1, 0),
        ("It is [1, 2].", "[1, 2]", {"answer_type": "list"}, 1, 1),
        ("[2, 1]", "[1, 2]", {"answer_type": "list"}, 0, 0),
        ("1, 2", "[1, 2]", {"answer_type": "list"}, 0, 0),
        ("red", "red", {}, 1, 1),
        ("Red.", "red", {}, 1, 0),
        ("red or blue", "red", {}, 0, 0),
        ("The answer is red", "red", {}, 1, 1),
        ("B", "cat", {"choices": ["dog", "cat"]}, 1, 1),
        ("(b)", "cat", {"choices": ["dog", "cat"]}, 1, 1),
        ("cat", "cat", {"choices": ["dog", "cat"]}, 1, 1),
        ("The answer is (B) cat", "cat", {"choices": ["dog", "cat"]}, 1, 1),
        ("A or B", "dog", {"choices": ["dog", "cat"]}, 0, 1),  # the nearest choice there, by its o
        ("cart", "cat", {"choices": ["dog", "cat"]}, 0, 1),  # the nearest choice there
        ("", "a", {"choices": ["a", "elephant"]}, 0, 0),  # never the shortest choice
        (" ", "a", {"choices": ["a", "elephant"]}, 0, 0),
        ("60", "60", {"choices": ["30", "60"]}, 1, 1),
        ("not B", "cat", {"choices": ["dog", "cat"]}, 0, 0),
    ],
)
def test_mathvista_by_rule(answer: str, truth: str, facts: dict, default: int, official: int) -> None:
    assert mathvista_rule(answer, truth, **facts) == default
    assert mathvista_rule(answer, truth, mode="official", **facts) == official


@given(
    st.text(max_size=30),
    st.sampled_from(["text", "integer", "float", "list"]),
    st.sampled_from([None, ["a", "b c"]]),
    st.sampled_from(["default", "official"]),
)
def test_mathvista_takes_any_text(answer: str, kind: str, choices: list[str] | None, mode: str) -> None:
    score = SCORERS.get("mathvista_rule").score(answer, "a", choices=choices, answer_type=kind, mode=mode)
    assert score.value in (0.0, 1.0)
    assert score.how in SCORERS.get("mathvista_rule").readings


@pytest.mark.parametrize(
    ("text", "boxed", "stated"),
    [
        ("", None, None),
        ("\\boxed{a}", "a", None),
        ("\\boxed{\\frac{a}{b}} or \\boxed{{c}}", "{c}", None),
        ("\\boxed{a", None, None),
        ("\\boxed{\\text{ a }}", "a", None),
        ("the answer is a", None, "a"),
        ("Answer: a\nmore", None, "a"),
        ("Answer:\n\na\nb", None, "a"),
        ("**Answer**: a", None, "a"),
        ("the result is 3", None, "3"),
        ("answers are good", None, None),
        ("the answer is a, no, the answer is b", None, "b"),
        ("The final answer should be: a", None, "a"),
        ("Answer:", None, None),
    ],
)
def test_what_an_answer_states(text: str, boxed: str | None, stated: str | None) -> None:
    assert (last_boxed(text), last_statement(text)) == (boxed, stated)


@pytest.mark.parametrize(
    "answer",
    ["1" * 100_000, "1," * 50_000, "111," * 25_000, "#### " * 20_000, "1." * 50_000, "[" * 100_000, "- " * 50_000],
)
def test_very_long_answers_are_quick(answer: str) -> None:
    start = time.perf_counter()
    for mode in MODES:
        gsm8k(answer, "42", mode=mode)
    for kind in ("text", "integer", "float", "list"):
        mathvista_rule(answer, "42", answer_type=kind)
        mathvista_rule(answer, "42", answer_type=kind, mode="official")
    assert time.perf_counter() - start < 3
