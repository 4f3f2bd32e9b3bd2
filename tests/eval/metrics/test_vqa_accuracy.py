"""VQA accuracy: the rule of the ten annotators, and what each way of preparing texts makes equal."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm_eval.metrics import SCORERS, vqa_accuracy
from taid_vlm_eval.metrics.vqa import MODES
from taid_vlm_eval.metrics.vqa_words import evalai_answer, official_answer, vlmevalkit_answer


def humans(*, filler: str = "other", **counts: int) -> list[str]:
    """Ten answers: each word as often as given, the rest different from one another."""
    given = [word for word, count in counts.items() for _ in range(count)]
    return given + [f"{filler}{number}" for number in range(10 - len(given))]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("matching", "score"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (5, 1.0), (9, 1.0), (10, 1.0)]
)
def test_share_of_annotators(matching: int, score: float, mode: str) -> None:
    assert vqa_accuracy("red", humans(red=matching), mode=mode) == pytest.approx(score)


# What a text becomes: officially, by the EvalAI processor, in VLMEvalKit now.
@pytest.mark.parametrize(
    ("text", "official", "evalai", "vlmevalkit"),
    [
        ("", "", "", ""),
        ("Red", "red", "red", "red"),
        (" red\n", "red", "red", "red"),
        ("light\tblue", "light blue", "light blue", "light blue"),
        ("the red", "red", "red", "red"),
        ("A an THE", "", "", ""),
        ("two", "2", "2", "2"),
        ("None", "0", "0", "0"),
        ("Ten", "10", "10", "10"),
        ("eleven", "eleven", "eleven", "eleven"),
        ("none of the", "0 of", "0 of", "0 of"),
        ("dont", "don't", "don't", "don't"),
        ("couldnt've", "couldn't've", "couldn't've", "couldn't've"),
        ("couldn'tve", "couldn't've", "couldn't've", "couldn't've"),
        ("Im", "im", "im", "im"),  # the official key is a capital, and the text is not
        ("somebody'd", "somebodyd", "somebodyd", "somebodyd"),
        ("twas", "'twas", "'twas", "'twas"),
        ("red,white", "red white", "redwhite", "red white"),
        ("red, white", "red white", "red white", "red white"),
        ("red ,white", "red white", "red white", "red white"),
        ("1,000", "1000", "1000", "1000"),
        ("1,000 x/b", "1000 xb", "1000 x b", "1000 xb"),  # officially, a comma in a number deletes every mark
        ("t-shirt", "t shirt", "t shirt", "t shirt"),
        ("a t -shirt", "t shirt", "t shirt", "t shirt"),
        ("x - y-z", "x yz", "x yz", "x yz"),
        ("yes!", "yes", "yes", "yes"),
        ("what?", "what", "what", "what"),
        ("so? yes", "so yes", "so yes", "so yes"),
        ("(left)", "left", "left", "left"),
        ('"stop"', "stop", "stop", "stop"),
        ("3.", "3", "3", "3."),
        (".5", ".5", ".5", ".5"),
        ("3.5", "3.5", "3.5", "3.5"),
        ("3.a", "3a", "3a", "3.a"),
        ("a.b", "ab", "ab", "ab"),
        ("dr. who", "dr who", "dr who", "dr who"),
        ("man's", "man's", "man 's", "man's"),
        ("it's", "it's", "it 's", "it's"),
        ("50%", "50%", "50%", "50%"),
        ("$5", "$5", "$5", "$5"),
        ("e: mail", "e: mail", "e: mail", "e: mail"),
        ("Caf\N{LATIN SMALL LETTER E WITH ACUTE}", *["caf\N{LATIN SMALL LETTER E WITH ACUTE}"] * 3),
        ("." * 40, "." * 8, "." * 8, "." * 8),  # the script hands a flag of 32 to where a count belongs
        ("\N{FULLWIDTH DIGIT TWO}", *["\N{FULLWIDTH DIGIT TWO}"] * 3),
    ],
)
def test_how_texts_are_prepared(text: str, official: str, evalai: str, vlmevalkit: str) -> None:
    assert official_answer(text) == official
    assert evalai_answer(text) == evalai
    assert vlmevalkit_answer(text) == vlmevalkit
    assert vlmevalkit_answer(text, repaired=False) == official


@pytest.mark.parametrize(
    ("answer", "truth", "scores"),
    [
        # evalai, official, evalai-official, vlmevalkit, vlmevalkit-2025-01
        ("Yes", ["yes"] * 10, (1, 0, 1, 1, 1)),  # ten equal answers are compared as they stand
        ("two", ["2"] * 10, (1, 0, 1, 1, 1)),
        ("yes", ["Yes"] * 10, (1, 0, 0, 1, 1)),
        ("Yes", ["yes"] * 9 + ["no"], (1, 1, 1, 1, 1)),
        (" yes\n", ["yes"] * 10, (1, 1, 1, 1, 1)),
        ("red,white", ["red white"] * 9 + ["x"], (0, 1, 0, 1, 1)),
        ("3.", ["3"] * 9 + ["x"], (1, 1, 1, 0, 1)),
        ("a dog or a cat", ["dog"] * 9 + ["x"], (0, 0, 0, 0, 0)),
        ("not red", ["red"] * 9 + ["x"], (0, 0, 0, 0, 0)),
        ("", ["red"] * 9 + ["x"], (0, 0, 0, 0, 0)),
        ("", ["the"] * 9 + ["a"], (1, 1, 1, 1, 1)),  # articles are nothing
    ],
)
def test_where_the_ways_differ(answer: str, truth: list[str], scores: tuple[int, ...]) -> None:
    assert tuple(vqa_accuracy(answer, truth, mode=mode) for mode in MODES) == scores


def test_a_single_truth_is_right_or_wrong() -> None:
    assert vqa_accuracy("The Dog", "dog") == vqa_accuracy("The Dog", ["dog"]) == 1.0
    assert vqa_accuracy("cat", "dog") == 0.0


def test_an_empty_answer_is_read_as_empty() -> None:
    assert SCORERS.get("vqa_accuracy").score(" \n", humans(red=3)).how == "empty"


@given(st.text(max_size=12), st.lists(st.text(max_size=8), min_size=2, max_size=12), st.sampled_from(MODES))
def test_bounds_and_the_plain_rule(answer: str, truths: list[str], mode: str) -> None:
    before = copy.deepcopy(truths)
    score = vqa_accuracy(answer, truths, mode=mode)
    assert 0.0 <= score <= 1.0
    assert score == pytest.approx(vqa_accuracy(answer, truths[::-1], mode=mode))
    assert truths == before  # scoring changes no data


@given(st.lists(st.sampled_from(["red", "blue", "2"]), min_size=2, max_size=12), st.sampled_from(["red", "blue", "2"]))
def test_equals_leaving_each_annotator_out(truths: list[str], answer: str) -> None:
    parts = []
    for left_out in range(len(truths)):
        others = truths[:left_out] + truths[left_out + 1 :]
        parts.append(min(1.0, sum(one == answer for one in others) / 3))
    for mode in MODES:
        assert vqa_accuracy(answer, truths, mode=mode) == pytest.approx(sum(parts) / len(parts))


@pytest.mark.parametrize("mode", MODES)
def test_a_very_long_answer_is_wrong_and_quick(mode: str) -> None:
    assert vqa_accuracy("red, " * 20_000, humans(red=9), mode=mode) == 0.0


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(UserError, match="unknown mode 'offical': did you mean 'official'"):
        vqa_accuracy("a", ["a"], mode="offical")
