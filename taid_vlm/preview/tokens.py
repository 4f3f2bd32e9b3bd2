"""A sequence of token ids as pieces that a person can read."""

from collections.abc import Sequence
from typing import Any

from taid_vlm.common import visible as showing
from taid_vlm.data.pairing import Side
from taid_vlm.preview.schema import Kind, Left, Piece

RUN = 8  # so many equal tokens in a row are shown as one; picture tokens always are
MOST_PARTS = 6  # tokens that a character, or the few that share tokens, may be split into
BROKEN = "\ufffd"  # what half a character decodes to
SIGNS = {"\n": "↵\n", "\t": "⇥"}


def pieces_of(side: Side, tokenizer: Any, image_token_id: int | None) -> list[Piece]:
    """The whole of one model's sequence; supervised are the tokens after ``side.rows``, as the loss takes them."""
    ids = side.ids
    taught = {row + 1 for row in side.rows}
    special = {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids}

    def kind_of(token: int) -> Kind:
        return "image" if token == image_token_id else "special" if token in special else "text"

    pieces, start = [], 0
    while start < len(ids):
        kind, supervised = kind_of(ids[start]), start in taught
        end = start + 1
        while end < len(ids) and ids[end] == ids[start] and (end in taught) == supervised:
            end += 1
        if end - start >= RUN or kind == "image":
            text = _decoded(tokenizer, ids[start : start + 1])
            pieces.append(Piece(text, (ids[start],), kind, supervised, end - start))
        else:
            end = start + 1 if kind == "special" else _whole_character(tokenizer, ids, start, taught, special)
            pieces.append(Piece(_decoded(tokenizer, ids[start:end]), tuple(ids[start:end]), kind, supervised))
        start = end
    return pieces


def shortened(pieces: Sequence[Piece], most: int) -> list[Piece | Left]:
    """At most ``most`` pieces: the beginning and the end, and between them a count of what is left out."""
    if len(pieces) <= most:
        return list(pieces)
    first, last = most // 2, most - most // 2
    between = pieces[first:-last]
    left = Left(sum(p.tokens for p in between), sum(p.tokens for p in between if p.supervised))
    return [*pieces[:first], left, *pieces[-last:]]


def visible(text: str) -> str:
    """Text as an output shows it; line breaks and tabs by a sign, and a break is made after it."""
    return showing.visible(text, SIGNS)


def _whole_character(tokenizer: Any, ids: list[int], start: int, taught: set[int], special: set[int]) -> int:
    """The end of the tokens from ``start`` that are needed to decode whole characters."""
    for end in range(start + 1, min(start + MOST_PARTS, len(ids)) + 1):
        if end > start + 1 and (ids[end - 1] in special or (end - 1 in taught) != (start in taught)):
            break
        if BROKEN not in _decoded(tokenizer, ids[start:end]):
            return end
    return start + 1


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    # SentencePiece drops the space before the first word of what it decodes.
    opens = str(tokenizer.convert_ids_to_tokens(ids[0])).startswith("▁")
    return " " + text if opens and not text.startswith(" ") else text
