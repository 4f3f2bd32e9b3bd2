"""One rendering, one tokenisation: ids of a conversation, and which of them the assistant says.

A chat template marks what the assistant says with generation blocks; the mask comes from the character offsets of the tokens.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from taid_vlm.common.errors import UserError

Span = tuple[int, int]


@dataclass(frozen=True)
class Rendered:
    """Token ids of a conversation, and which of them the assistant says (end-of-turn token included)."""

    ids: list[int]
    answer_mask: list[bool]


def render_text(
    tokenizer: Any, template: str, messages: list[dict[str, Any]], **variables: Any
) -> tuple[str, list[Span]]:
    """The text of a conversation, and where in it the assistant speaks, as (first, past the last) characters.

    Raises:
        UserError: the template refuses the conversation, or is not a template.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered: Any  # the texts and spans of each conversation
    try:
        rendered = render_jinja_template(
            conversations=[messages],
            chat_template=template,
            return_assistant_tokens_mask=True,
            **{**tokenizer.special_tokens_map, **variables},
        )
    except Exception as error:  # a template is a program, in a sandbox: it raises what programs raise
        raise UserError(f"the chat template cannot write a conversation: {error}") from error
    texts, spans = rendered
    return texts[0], [(start, end) for start, end in spans[0]]


def tokenize(tokenizer: Any, text: str, spans: list[Span], cut: bool) -> Rendered:
    """Ids of a text without anything added (BOS is the template's to write), and the mask of the spans.

    An answer that begins with white space may share its first token with the newline before it, and the words behind a newline may decide
    how it is tokenised. The prompt that an answer follows when it is generated ends with that newline, so there the text is cut, and its
    parts are tokenised for themselves.

    Args:
        cut: whether this may be done, see :func:`can_be_cut`.
    """
    starts = [start for start, _ in spans if start]
    cuts = [start for start in starts if cut and _in_white_space(text, start)]
    ids, offsets = _encode_parts(tokenizer, text, cuts)
    inside = [start for start in starts if cut and _in_a_token(offsets, start)]
    if inside:
        ids, offsets = _encode_parts(tokenizer, text, sorted([*cuts, *inside]))
    return Rendered(ids, _mask(tokenizer, ids, offsets, spans))


def can_be_cut(tokenizer: Any) -> bool:
    """Whether the ids of a text are those of its parts; not so where a space is put before every text (Llama 2)."""
    return all(
        _encode(tokenizer, first + second)[0] == _encode(tokenizer, first)[0] + _encode(tokenizer, second)[0]
        for first, second in (("a\n", "b"), ("a", " b"))
    )


def _encode(tokenizer: Any, text: str) -> tuple[list[int], list[Span]]:
    out = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(out["input_ids"]), list(out["offset_mapping"])


def _encode_parts(tokenizer: Any, text: str, cuts: list[int]) -> tuple[list[int], list[Span]]:
    ids: list[int] = []
    offsets: list[Span] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        more, where = _encode(tokenizer, text[start:end])
        ids += more
        # A space has no width where spaces are left out of offsets; the first of a part is in the part all the same.
        offsets += [(start + first, start + max(past, first == 0)) for first, past in where]
    return ids, offsets


def _in_white_space(text: str, character: int) -> bool:
    """Whether two or more characters of white space end before the character, or go on behind it."""
    return text[character - 1].isspace() and (text[character].isspace() or text[max(0, character - 2)].isspace())


def _in_a_token(offsets: list[Span], character: int) -> bool:
    """Whether a token begins before the character and ends behind it, as far as offsets tell: some leave spaces out."""
    index = bisect_left(offsets, character, key=lambda span: span[0]) - 1
    return index >= 0 and offsets[index][1] > character


def _mask(tokenizer: Any, ids: list[int], offsets: list[Span], spans: list[Span]) -> list[bool]:
    mask = [False] * len(ids)
    place = 0
    for index, (first, past) in enumerate(offsets):
        while place < len(spans) and first >= spans[place][1]:
            place += 1
        if place == len(spans):
            break
        start = spans[place][0]
        mask[index] = past > start
        # A word's token may begin with the space before the start. An added token that reaches over it has swallowed what follows it.
        if first < start < past and ids[index] in tokenizer.added_tokens_decoder:
            mask[index] = False
    return mask
