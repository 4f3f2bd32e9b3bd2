"""The letter of an option, by default: strict, then lenient, never a guess."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm_eval.metrics import SCORERS, choice, choice_or_text, read_letter
from taid_vlm_eval.metrics.choice import MODES

ANIMALS = ["a dog", "a cat", "hot dog", "Vitamin B"]


@pytest.mark.parametrize(
    ("answer", "letter", "how"),
    [
        ("B", "B", "strict"),
        ("b", "B", "strict"),
        ("(B)", "B", "strict"),
        ("(b)", "B", "strict"),
        ("B.", "B", "strict"),
        ("B)", "B", "strict"),
        ("**B**.", "B", "strict"),
        (" B \n", "B", "strict"),
        ("[B]", "B", "strict"),
        ("B. a cat", "B", "lenient"),
        ("B) a cat", "B", "lenient"),
        ("b) a cat", "B", "lenient"),
        ("B: a cat", "B", "lenient"),
        ("B, for it meows", "B", "lenient"),
        ("(B) a cat", "B", "lenient"),
        ("**B**. a cat", "B", "lenient"),
        ("B\n\nIt meows.", "B", "lenient"),
        ("The answer is B.", "B", "lenient"),
        ("the answer is: **B**", "B", "lenient"),
        ("Answer: B", "B", "lenient"),
        ("Answer: (b)", "B", "lenient"),
        ("Answer:\nB", "B", "lenient"),
        ("**Answer:** B", "B", "lenient"),
        ("The correct answer is (B) a cat.", "B", "lenient"),
        ("The answer is a cat.", "B", "lenient"),
        ("The answer is A. Wait, no. The answer is B.", "B", "lenient"),
        ("Option B", "B", "lenient"),
        ("option (B) is correct", "B", "lenient"),
        ("I choose B", "B", "lenient"),
        ("\\boxed{B}", "B", "lenient"),
        ("So $\\boxed{\\text{B}}$.", "B", "lenient"),
        ("A cat", "B", "lenient"),
        ("a cat.", "B", "lenient"),
        ("It is a cat.", "B", "lenient"),
        ("A hot dog on a plate", "C", "lenient"),  # the longer text, not the dog in it
        ("Vitamin B", "D", "lenient"),  # the text of an option before a letter in it
        ("D. Vitamin B", "D", "lenient"),
        ("A. Vitamin B", None, "none"),  # two letters, and not the text of A
        ("\N{CJK UNIFIED IDEOGRAPH-7B54}\N{CJK UNIFIED IDEOGRAPH-6848}\N{CJK UNIFIED IDEOGRAPH-662F}B", "B", "lenient"),
        ("A is right", "A", "lenient"),
        ("The answer is B, not A.", "B", "lenient"),
        ("The answer is B because A is a dog", "B", "lenient"),
        ("The answer is B. A and C do not meow.", "B", "lenient"),
        ("B. a cat. A dog would bark, and so would C.", "B", "lenient"),
        ("B) It meows, unlike A", "B", "lenient"),
        ("A. a dog or B. a cat", None, "none"),
        ("A. a dog\nB. a cat\nC. hot dog", None, "none"),  # the options again
        ("The answer is A, or maybe B", None, "none"),
        ("Answer: A/B", None, "none"),
        ("the answer is a", "A", "lenient"),
        ("A or B", None, "none"),
        ("A and B", None, "none"),
        ("A, B", None, "none"),
        ("Either A or B.", None, "none"),
        ("The answer is A or B", None, "none"),
        ("B or not B", None, "none"),
        ("(A) or (B)", None, "none"),
        ("(A) is wrong, (B) is right", None, "none"),
        ("not B", None, "none"),
        ("It can't be B", None, "none"),
        ("The answer is not B.", None, "none"),
        ("It's not a cat", None, "none"),
        ("a dog and a cat", None, "none"),
        ("I choose B because A is wrong", None, "none"),
        ("A large animal", None, "none"),  # an article
        ("CAT", None, "none"),
        ("Bob is here", None, "none"),
        ("a category", None, "none"),
        ("USA", None, "none"),
        ("B-52", None, "none"),
        ("B's", None, "none"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}B", None, "none"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER B}", None, "none"),
        ("E", None, "none"),  # four options
        ("E. an elk", None, "none"),
        ("2", None, "none"),
        ("I don't know", None, "none"),
        ("???", None, "none"),
        ("", None, "empty"),
        (" \n\t", None, "empty"),
    ],
)
def test_which_letter_an_answer_means(answer: str, letter: str | None, how: str) -> None:
    assert read_letter(answer, ANIMALS) == (letter, how)
    score = SCORERS.get("choice").score(answer, "B", options=ANIMALS)
    assert (score.value, score.how, score.reading) == (float(letter == "B"), how, letter)


def test_without_options_the_letters_are_a_to_h_and_no_text_is_matched() -> None:
    assert read_letter("H") == ("H", "strict")
    assert read_letter("I") == (None, "none")
    assert read_letter("a cat") == (None, "none")


def test_options_may_have_letters_of_their_own() -> None:
    assert read_letter("the second", {"J": "the first", "K": "the second"}) == ("K", "lenient")


@pytest.mark.parametrize("truth", ["B", "b", "(B)", " B ", ["A", "B"]])
def test_ways_to_write_the_truth(truth: str | list[str]) -> None:
    assert choice("B", truth) == 1.0
    assert choice("C", truth) == 0.0


@given(st.text(max_size=60), st.sampled_from(MODES))
def test_whatever_is_found_is_an_option(answer: str, mode: str) -> None:
    score = SCORERS.get("choice").score(answer, "B", options=ANIMALS, mode=mode)
    assert score.value in (0.0, 1.0)
    assert score.how in SCORERS.get("choice").readings
    if mode != "official":
        assert score.reading in (None, "A", "B", "C", "D")
        assert (score.reading is None) == (score.how in ("none", "empty"))


@given(
    st.sampled_from("ABCD"),
    st.sampled_from(["{}", "({})", "{}.", " {} ", "**{}**", "{}:", "Answer: {}", "The answer is {}."]),
)
def test_plain_ways_to_say_it_are_found_for_every_letter(letter: str, form: str) -> None:
    assert read_letter(form.format(letter), ANIMALS)[0] == letter


@given(st.permutations("ABCD").map(lambda order: order[:2]), st.sampled_from([" or ", ", ", " and ", "/", " & ", "\n"]))
def test_two_letters_are_never_one(pair: list[str], between: str) -> None:
    letter, _ = read_letter(between.join(pair), None)
    # "B", a new line, and "C" could be an answer and its reasons; nothing else could.
    assert letter is None or (between == "\n" and letter == pair[0])


@pytest.mark.parametrize(
    "answer",
    [
        "A " * 50_000,
        "(A) (B) " * 12_500,
        "a cat " * 16_000,
        "answer is " * 10_000,
        "\\boxed{" * 14_000,
        "*_" * 50_000 + "word",
        "[" * 100_000,
        "not " * 25_000 + "B",
        "word " * 20_000,
        "x" * 100_000,
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_very_long_answers_are_quick(answer: str, mode: str) -> None:
    start = time.perf_counter()
    choice(answer, "B", options=ANIMALS, mode=mode)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("answer", "truth", "value"),
    [
        ("B", "B", 1),
        ("B.", "B", 1),
        ("The answer is B", "b", 1),
        ("A or B", "B", 0),
        ("E", "B", 0),
        ("", "B", 0),
        ("0", "0", 1),
        ("0.", "0", 1),
        (" 0 ", "0", 1),
        ("00", "0", 0),
        ("zero", "0", 0),
        ("Downhill", "downhill", 1),
        ("DOWNHILL.", "Downhill", 1),
        ("going downhill", "downhill", 0),
        ("Yes", "yes", 1),
        ("", "", 0),
        ("Yes, it is", "yes", 0),
        ("E", "E", 1),  # only A to D are letters of options there
    ],
)
def test_real_world_qa_has_letters_and_short_texts(answer: str, truth: str, value: int) -> None:
    assert choice_or_text(answer, truth) == value
