"""Captions: words, CIDEr, BLEU and ROUGE-L beside plain recomputations of their definitions."""

import math
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taid_vlm_eval.metrics import METRICS, SCORERS, Scored, caption_rouge_l, cider_scores
from taid_vlm_eval.metrics.bleu import bleu_columns, bleu_of_sums
from taid_vlm_eval.metrics.caption_words import caption_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        (" \n", ""),
        ("...", ""),
        ("A man", "a man"),
        ("A man.", "a man"),
        ("A man , a dog", "a man a dog"),
        ("Who? Me!", "who me"),
        ("A man's dog", "a man 's dog"),
        ("the dogs' toys", "the dogs toys"),
        ("it isn't", "it is n't"),
        ("don\N{RIGHT SINGLE QUOTATION MARK}t", "do n't"),
        ("I'm he'll they've we're she'd", "i 'm he 'll they 've we 're she 'd"),
        ("he cannot", "he can not"),
        ("gonna wanna", "gon na wan na"),
        ("o'clock", "o'clock"),
        ("a t-shirt", "a t-shirt"),
        ("black-and-white", "black-and-white"),
        ("a dog - a cat", "a dog a cat"),
        ("a dog -- a cat", "a dog a cat"),
        ("a dog; a cat: two", "a dog a cat two"),
        ('a "stop" sign', "a stop sign"),
        ("a 'stop' sign", "a stop sign"),
        ("\N{LEFT DOUBLE QUOTATION MARK}stop\N{RIGHT DOUBLE QUOTATION MARK}", "stop"),
        ("(left) [right] {up}", "left right up"),
        ("1,000 people", "1,000 people"),
        ("3.5 miles", "3.5 miles"),
        ("3 .5", "3 5"),
        ("at 12:30", "at 12:30"),
        ("the 2nd", "the 2nd"),
        ("$5", "$ 5"),
        ("50% off", "50 % off"),
        ("U.S. flag", "u.s. flag"),
        ("5 p.m.", "5 p.m."),
        ("mr. smith", "mr. smith"),
        ("St. John", "st. john"),
        ("says no.", "says no"),
        ("rock & roll", "rock & roll"),
        ("and/or", "and/or"),
        ("a #1 fan", "a #1 fan"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("\N{HIRAGANA LETTER A} \N{HIRAGANA LETTER I}", "\N{HIRAGANA LETTER A} \N{HIRAGANA LETTER I}"),
        ("a man\nruns\tfast", "a man runs fast"),
        ("wait...what", "wait what"),
    ],
)
def test_words_of_captions(text: str, words: str) -> None:
    assert caption_words(text) == words.split()


@given(st.text(max_size=40))
def test_words_are_lower_case_and_free_of_spaces(text: str) -> None:
    for word in caption_words(text):
        assert word == word.lower()
        assert word.split() == [word]
    assert caption_words(text.lower()) == caption_words(text)


@pytest.mark.parametrize(
    ("answer", "truth", "precision", "recall"),
    [
        ("a dog", "a dog", 1, 1),
        ("A dog.", "a dog", 1, 1),
        ("a dog runs", "a dog", 2 / 3, 1),
        ("a dog", "a dog runs", 1, 2 / 3),
        ("dog a", "a dog", 1 / 2, 1 / 2),
        ("a dog", ["a dog runs", "a"], 1, 1),  # precision of the first, recall of the second
        ("a b c d", "d c b a", 1 / 4, 1 / 4),
        ("a x b y c", "a b c", 3 / 5, 1),
        ("a dog", "a dog's", 1, 2 / 3),
    ],
)
def test_rouge_l_of_coco(answer: str, truth: str | list[str], precision: float, recall: float) -> None:
    expected = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert caption_rouge_l(answer, truth) == pytest.approx(expected)
    assert SCORERS.get("caption").score(answer, truth).value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "truth"), [("", "a"), ("a", ""), ("a", []), ("...", "a"), ("cat", "a dog"), ("", "")]
)
def test_rouge_l_of_nothing_in_common_is_zero(answer: str, truth: str | list[str]) -> None:
    assert caption_rouge_l(answer, truth) == 0.0


def plain_cider(answers: list[list[str]], references: list[list[list[str]]]) -> list[float]:
    """The plain twin: dense vectors over all n-grams of one length, a word at a time."""

    def grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    scores = np.zeros(len(answers))
    for n in (1, 2, 3, 4):
        every = [*answers, *(one for many in references for one in many)]
        known = sorted({gram for words in every for gram in grams(words, n)})
        rarity = np.array(
            [
                math.log(len(answers))
                - math.log(max(1, sum(any(gram in grams(one, n) for one in many) for many in references)))
                for gram in known
            ]
        )
        for place, (answer, many) in enumerate(zip(answers, references, strict=True)):
            for one in many:
                ours = np.array([grams(answer, n)[gram] for gram in known], dtype=float) * rarity
                theirs = np.array([grams(one, n)[gram] for gram in known], dtype=float) * rarity
                norm = np.linalg.norm(ours) * np.linalg.norm(theirs)
                cosine = float(np.minimum(ours, theirs) @ theirs) / norm if norm > 0 else 0.0
                # The original counts pairs of words for the length.
                difference = max(0, len(answer) - 1) - max(0, len(one) - 1)
                scores[place] += 10 / 4 * cosine * math.exp(-(difference**2) / 72) / len(many)
    return scores.tolist()


sentences = st.lists(st.sampled_from("abcde"), min_size=1, max_size=7)
images = st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=3)), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(images)
def test_cider_is_that_of_its_definition(data: list[tuple[list[str], list[list[str]]]]) -> None:
    answers, references = [one[0] for one in data], [one[1] for one in data]
    found = cider_scores(answers, references)
    assert found == pytest.approx(plain_cider(answers, references), abs=1e-9)
    assert all(-1e-9 <= score <= 10 + 1e-9 for score in found)


def test_cider_of_one_image_is_zero() -> None:
    assert cider_scores([["a", "dog"]], [[["a", "dog"]]]) == [0.0]


def test_cider_of_two_equal_and_unlike_captions_is_ten() -> None:
    captions = [["a", "big", "dog", "runs"], ["the", "red", "car", "stops"]]
    assert cider_scores(captions, [[one] for one in captions]) == pytest.approx([10.0, 10.0])


def test_cider_of_short_captions_lacks_the_lengths_they_do_not_have() -> None:
    captions = [["dog"], ["red", "car"]]
    assert cider_scores(captions, [[one] for one in captions]) == pytest.approx([2.5, 5.0])


def test_cider_of_empty_answers_and_no_references_is_zero() -> None:
    assert cider_scores([[], ["a"], ["b"]], [[["a"]], [], [["b", "c"]]])[:2] == [0.0, 0.0]
    with pytest.raises(ValueError, match="1 answers and 0 sets"):
        cider_scores([["a"]], [])


@pytest.mark.parametrize(
    ("pairs", "longest", "value"),
    [
        ([("a dog runs fast", ["a dog runs fast"])], 4, 1.0),
        ([("a dog", ["a dog"])], 1, 1.0),
        ([("a a a", ["a b"])], 1, 1 / 3),  # clipped
        ([("a a", ["a a b b"])], 1, math.exp(1 - 4 / 2)),  # too short
        ([("a b", ["a x"])], 1, 1 / 2),
        ([("a b c", ["a b x"])], 2, math.sqrt(2 / 3 * 1 / 2)),
        ([("a b", ["a x", "y b"])], 1, 1.0),  # each word from another reference
        ([("a b c", ["a b c d", "a b"])], 1, 1.0),  # as close: the shorter one
        ([("a b", ["a b"]), ("c", ["d"])], 1, 2 / 3),  # of the set, not the mean of captions
        ([("x", ["y"])], 1, 0.0),
        ([("", ["y"])], 1, 0.0),
    ],
)
def test_bleu_by_hand(pairs: list[tuple[str, list[str]]], longest: int, value: float) -> None:
    sums = np.sum([bleu_columns(answer.split(), [one.split() for one in many]) for answer, many in pairs], axis=0)
    assert bleu_of_sums(sums[None], longest)[0] == pytest.approx(value, abs=1e-6)


def test_the_metric_names_all_figures_and_bounds_them() -> None:
    texts = ["A dog runs on the grass.", "Two red cars are parked.", "A man's hat", "A cat on a mat"]
    scored = [Scored(str(i), str(i), text, [text, "something else"], 0.0) for i, text in enumerate(texts)]
    estimate = METRICS.get("captions")(scored, 0)
    assert set(estimate.named) == {"CIDEr", "ROUGE-L", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"}
    words = [caption_words(text) for text in texts]
    others = [[one, ["something", "else"]] for one in words]
    assert estimate.value == pytest.approx(sum(cider_scores(words, others)) / 4)
    assert estimate.top == 10.0
    assert estimate.named["BLEU-4"].value == pytest.approx(1.0, abs=1e-6)
    assert estimate.named["ROUGE-L"].value == pytest.approx(1.0)
    for one in estimate.named.values():
        assert one.low <= one.value + 1e-9
        assert one.value <= one.high + 1e-9


def test_very_long_captions_are_quick() -> None:
    start = time.perf_counter()
    scored = [Scored(str(i), str(i), "dog " * 25_000, ["a dog", "a cat"], 0.0) for i in range(2)]
    METRICS.get("captions")(scored, 0)
    for text in ("*_" * 50_000, "a-" * 50_000, "'" * 100_000, "1," * 50_000, "a." * 50_000, "n't" * 33_000):
        caption_words(text)
    assert time.perf_counter() - start < 5
