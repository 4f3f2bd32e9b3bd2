"""Ids as readable pieces: nothing is lost, nothing is obeyed."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taid_vlm.data.pairing import Side
from taid_vlm.models.processor import Processor, template_text
from taid_vlm.preview.schema import Left, Piece
from taid_vlm.preview.tokens import RUN, pieces_of, shortened, visible
from tests.tiny.language_model import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
IMAGE = TOKENIZER.convert_tokens_to_ids("<empty_output>")
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), min_size=1, max_size=40)


def side_of(text: str, answer: str) -> Side:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    rendered = Processor(TOKENIZER, template_text("chatml"), None).render(messages)
    return Side(rendered.ids, [i - 1 for i, said in enumerate(rendered.answer_mask) if said])


@given(WORDS, WORDS)
def test_pieces_are_the_whole_sequence_and_its_answers(text: str, answer: str) -> None:
    side = side_of(text, answer)
    pieces = pieces_of(side, TOKENIZER, IMAGE)
    assert [token for piece in pieces for token in piece.ids * piece.repeats] == side.ids
    said = "".join(piece.text * piece.repeats for piece in pieces if piece.supervised)
    assert said == answer + "<|im_end|>"
    taught = [piece.supervised for piece in pieces for _ in range(piece.tokens)]
    assert [i - 1 for i, flag in enumerate(taught) if flag] == side.rows


def test_characters_of_several_tokens_are_one_piece() -> None:
    pieces = pieces_of(side_of("é👩", "日"), TOKENIZER, IMAGE)
    assert {(p.text, p.tokens) for p in pieces if not p.text.isascii()} == {("é", 2), ("👩", 4), ("日", 3)}


def test_runs_are_counted_not_repeated() -> None:
    letter = TOKENIZER.encode("a")[0]
    ids = [IMAGE] * 256 + [letter] * RUN + [IMAGE] + [letter] * (RUN - 1) + [letter] * RUN
    pieces = pieces_of(Side(ids, list(range(len(ids) - RUN - 1, len(ids) - 1))), TOKENIZER, IMAGE)
    shown = [(p.text, p.kind, p.repeats) for p in pieces]
    assert shown[:3] == [("<empty_output>", "image", 256), ("a", "text", RUN), ("<empty_output>", "image", 1)]
    assert shown[3:-1] == [("a", "text", 1)] * (RUN - 1)  # a run ends where supervision begins
    assert (shown[-1], pieces[-1].supervised) == (("a", "text", RUN), True)


def test_half_a_character_is_shown_and_does_not_take_the_next() -> None:
    half = TOKENIZER.encode("é")[0]
    letters = TOKENIZER.encode("ab")
    pieces = pieces_of(Side([half, *letters], [0]), TOKENIZER, None)
    assert [p.ids for p in pieces] == [(half,), (letters[0],), (letters[1],)]


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(2, 20))
def test_shortening_counts_what_it_leaves_out(repeats: list[int], most: int) -> None:
    pieces = [Piece("a", (1,), "text", i % 3 == 0, n) for i, n in enumerate(repeats)]
    short = shortened(pieces, most)
    assert sum(p.tokens for p in short) == sum(repeats)
    taught = sum(p.supervised if isinstance(p, Left) else p.tokens * p.supervised for p in short)
    assert taught == sum(p.tokens for p in pieces if p.supervised)
    assert sum(isinstance(p, Piece) for p in short) == min(len(pieces), most)


@given(st.text(st.characters()))
def test_visible_text_has_no_controls(text: str) -> None:
    shown = visible(text)
    shown.encode()
    bad = [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Cf") and c not in "\n\u200c\u200d"]
    assert not bad
    assert shown.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb", "a↵\nb"),
        ("\t", "⇥"),
        ("\u202e", "\\u202e"),
        ("\ufffe", "\\ufffe"),
        ("é", "é"),
    ],
)
def test_signs(text: str, shown: str) -> None:
    assert visible(text) == shown
