"""Texts of which every token is learnt, for continued pre-training: their ids for both models, and blocks of long ones.

A block begins with the BOS that a model's tokenizer puts before every text, if it does, and the last block of a document ends with the EOS
of the student's tokenizer, if the teacher's has the same token. All tokens are supervised but the first; where only one of the two has a BOS,
the first token of the text is the first for both. Control tokens that stand in a text are read as text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from taid_vlm.data.record import BadSampleError, Record


class ReadsText(Protocol):
    """The part of a model's processor that texts need."""

    tokenizer: Any
    image_token_id: int | None


@dataclass(frozen=True)
class TextSide:
    """Ids of a text for one model, the positions whose next token is learnt, and these tokens."""

    ids: list[int]
    rows: list[int]
    labels: list[int]


def text_sides(record: Record, models: Sequence[ReadsText]) -> list[TextSide]:
    """The text of a record for the student, and the teacher if there is one.

    Raises:
        BadSampleError: nothing to learn, or the text holds a model's placeholder for pictures.
    """
    assert record.text is not None
    starts = [_bos(model.tokenizer) for model in models]
    end = [] if record.continues else _eos([model.tokenizer for model in models])
    skipped = 0 if all(starts) else 1
    sides = []
    for model, start in zip(models, starts, strict=True):
        said = [*_encode(model.tokenizer, record.text)["input_ids"], *end]
        if model.image_token_id in said:
            raise BadSampleError(
                f"sample {record.id} has the placeholder of a picture, and no picture; remove it", "broken text"
            )
        if len(said) <= skipped:
            raise BadSampleError(f"sample {record.id} has a single token: nothing comes after it", "no answer")
        rows = list(range(len(start) + skipped - 1, len(start) + len(said) - 1))
        sides.append(TextSide([*start, *said], rows, said[skipped:]))
    return sides


def blocks(record: Record, models: Sequence[ReadsText], max_length: int) -> Iterator[Record]:
    """A document as records of at most ``max_length`` tokens for every model, which together are its text; any other record as it is.

    White space that would be a block of its own is left out.
    """
    if record.text is None or not record.text.strip() or _longest(record, models) <= max_length:
        yield record
        return
    text = record.text
    begins = [first for first, _ in _encode(models[0].tokenizer, text, return_offsets_mapping=True)["offset_mapping"]]
    start = number = 0
    while start < len(begins):
        stop, block = start, record
        room = max_length
        while room > 0:
            stop = min(start + room, len(begins))
            last = stop == len(begins)
            piece = text[begins[start] if start else 0 : None if last else begins[stop]]
            block = replace(record, id=f"{record.id} block {number + 1}", text=piece, continues=not last)
            # Cut off from what was before it, a text may have a token more or less; BOS and EOS come on top.
            over = _longest(block, models) - max_length
            if over <= 0:
                break
            room -= max(over, 1)
        start = max(stop, start + 1)
        if block.text is not None and block.text.strip():
            number += 1
            yield block


def _longest(record: Record, models: Sequence[ReadsText]) -> int:
    end = 0 if record.continues else len(_eos([model.tokenizer for model in models]))
    texts = [len(_bos(m.tokenizer)) + len(_encode(m.tokenizer, record.text or "")["input_ids"]) for m in models]
    return max(texts) + end


def _encode(tokenizer: Any, text: str, **options: Any) -> Any:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False, **options)


def _bos(tokenizer: Any) -> list[int]:
    first = tokenizer("x", add_special_tokens=True)["input_ids"][:1]
    return first if tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id] else []


def _eos(tokenizers: Sequence[Any]) -> list[int]:
    token, number = tokenizers[0].eos_token, tokenizers[0].eos_token_id
    if number is None or any(one.convert_tokens_to_ids(token) != number for one in tokenizers[1:]):
        return []
    return [number]
