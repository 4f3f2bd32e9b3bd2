"""Letters in the ways of other harnesses, by their rules: what each finds in the same answers."""

import os
import subprocess
import sys

import pytest

from taid_vlm_eval.metrics import choice
from taid_vlm_eval.metrics.choice import MODES
from taid_vlm_eval.metrics.letters_modes import (
    first_character,
    llava_letter,
    lmms_letter,
    vlmevalkit_letter,
)
from taid_vlm_eval.metrics.mmmu import mmmu_letter

TABLE = {"A": "a dog", "B": "a cat", "C": "a bird", "D": "Zebra"}

# answer, VLMEvalKit, VLMEvalKit in January 2025, lmms-eval, MMMU's authors, LLaVA, first character
CASES = [
    ("B", "B", "B", "B", "B", "B", "B"),
    ("b", None, None, None, None, None, None),
    (" B", "B", "B", "B", "B", None, "B"),
    ("(B)", "B", "B", "B", "B", None, None),
    ("B.", "B", "B", "B", "B", None, "B"),
    ("B)", "B", "B", "B", None, None, "B"),
    ("**B**", "B", "B", "B", None, None, None),
    ("'B'", None, None, "B", "B", None, None),
    ("B. ", "B", "B", "B", None, "B", "B"),
    ("B. a cat", "B", "B", "B", None, "B", "B"),
    ("B: a cat", "B", "B", "B", None, None, "B"),
    ("B) a cat", "B", "B", "B", None, None, "B"),
    ("(B) a cat", "B", "B", "B", "B", None, None),
    ("a cat", "B", "B", None, None, None, None),
    ("A CAT", "A", "A", "A", "A", None, "A"),  # a free "A" goes before a text
    ("It is a cat", "B", "B", None, None, None, None),
    ("I can see a cat in here", "B", "B", None, "B", None, None),
    ("a dog and a cat", None, None, None, None, None, None),
    ("there is a dog and a cat", None, None, None, "B", None, None),  # the later one
    ("A or B", None, None, "A", "B", None, "A"),
    ("A, B", None, None, "A", "B", None, "A"),
    ("(A) or (B)", None, None, "B", "B", None, None),
    ("A large dog", "A", "A", "A", "A", None, "A"),
    ("A large dog sits over there on the mat", None, "A", "A", "A", None, "A"),
    ("The answer is B", "B", "B", "B", "B", None, None),
    ("The answer is B.", "B", "B", "B", "B", "B", None),
    ("The answer is B. The answer is B.", "B", "B", "B", "B", None, None),
    ("The answer is B because of its many long whiskers", "B", "B", "B", "B", "B", None),
    ("the correct answer is **c** and that is all there is", "C", None, None, None, None, None),
    ("not B", "B", "B", "B", "B", None, None),
    ("CAT is here", None, None, "A", None, None, "C"),
    ("USA", None, None, "A", None, None, None),
    ("Failed to obtain answer via API.", None, None, "A", None, None, None),
    ("Failed to obtain answer via API. B", None, None, "B", "B", None, None),
    ("Cannot determine the answer", None, None, "C", None, None, "C"),
    ("Z", None, None, None, None, None, None),
    ("Zebra", "D", "D", None, None, None, None),
    ("Z zebra", None, None, None, None, None, None),  # a bare Z is a refusal
    ("E", None, None, None, None, None, None),
    ("I choose B", "B", "B", "B", "B", None, None),
    ("B\nbecause it meows and purrs loudly", None, "B", "B", None, None, "B"),
    ("B one two three", "B", "B", "B", "B", None, "B"),
    ("B one two three four", None, "B", "B", "B", None, "B"),  # the letter is not among the last four words
    ("", None, None, None, None, None, None),
    ("?", None, None, None, None, None, None),
    ("\N{FULLWIDTH LATIN CAPITAL LETTER B}", None, None, None, None, None, None),
]


@pytest.mark.parametrize(("answer", "vlmevalkit", "january", "lmms", "mmmu", "llava", "first"), CASES)
def test_what_each_way_finds(
    answer: str,
    vlmevalkit: str | None,
    january: str | None,
    lmms: str | None,
    mmmu: str | None,
    llava: str | None,
    first: str | None,
) -> None:
    assert vlmevalkit_letter(answer, TABLE) == vlmevalkit
    assert vlmevalkit_letter(answer, TABLE, at_2025_01=True) == january
    assert lmms_letter(answer, TABLE) == lmms
    assert mmmu_letter(answer, TABLE) == mmmu
    assert llava_letter(answer, TABLE) == llava
    assert first_character(answer, TABLE) == first


@pytest.mark.parametrize("mode", ["vlmevalkit", "vlmevalkit-2025-01", "lmms", "mmmu", "llava", "first-character"])
def test_nothing_found_is_wrong_for_every_letter_and_never_a_draw(mode: str) -> None:
    for _ in range(20):
        assert [choice("???", letter, options=TABLE, mode=mode) for letter in "ABCD"] == [0, 0, 0, 0]


def test_a_long_text_is_no_option_in_vlmevalkit_now() -> None:
    wordy = "there is " * 10 + "a cat"
    assert vlmevalkit_letter(wordy, TABLE) is None
    assert vlmevalkit_letter(wordy, TABLE, at_2025_01=True) == "B"


def test_blinks_authors_compare_texts() -> None:
    assert choice("(B)", "(B)", mode="official") == 1.0
    assert choice("B", "(B)", mode="official") == 0.0
    assert choice("B", "(B)") == 1.0


@pytest.mark.parametrize("value", [None, "0", "1", ""])
def test_the_environment_changes_no_answer(value: str | None) -> None:
    environment = {name: text for name, text in os.environ.items() if name != "VERBOSE"}
    if value is not None:
        environment["VERBOSE"] = value
    program = "from taid_vlm_eval.metrics import choice; print(choice('The letter is A', 'A', options=['x', 'y'], mode='vlmevalkit'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout == "1.0\n", done.stderr


def test_scoring_leaves_the_options_as_they_are() -> None:
    before = dict(TABLE)
    for mode in MODES:
        choice("It is a CAT", "B", options=TABLE, mode=mode)
    assert before == TABLE
