"""Greedy answers to a batch whose rows begin alike: what they share is read once.

Questions about one picture differ only after it, and the picture is most of the prompt. So the distinct beginnings are read first, as a
batch of their own, the keys and values of each are given to all rows that begin with it, and the rows go on from there. Padding then stands
before a beginning and between it and the rest; positions are counted without it, so the rounding is all that differs from reading each row
as a whole.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from taid_vlm_eval.models.padding import left_padded, masked

try:
    from transformers.cache_utils import DynamicLayer
except ImportError:  # a release whose caches have no layers: nothing is shared
    DynamicLayer = None  # type: ignore[assignment,misc]

WORTHWHILE = 0.25  # of all tokens of a batch, to read the beginnings apart


@dataclass(frozen=True)
class Beginnings:
    """The distinct beginnings of a batch.

    Attributes:
        rows: for each beginning the first row that has it.
        of: for each row, which of the beginnings is its own.
        ends: for each row, how many tokens its beginning has.
    """

    rows: list[int]
    of: list[int]
    ends: list[int]


def find_beginnings(ids: Sequence[list[int]], keys: Sequence[Hashable], ends: Sequence[int]) -> Beginnings | None:
    """Equal beginnings in a batch; None when too little is shared.

    Args:
        ids: tokens of each row.
        keys: rows with equal tokens share a beginning only when these are equal too.
        ends: for each row, how many tokens its beginning has: at least one, and fewer than the row.
    """
    known: dict[Any, int] = {}
    rows: list[int] = []
    of: list[int] = []
    for row, (tokens, key, end) in enumerate(zip(ids, keys, ends, strict=True)):
        beginning = (key, tuple(tokens[:end]))
        if beginning not in known:
            known[beginning] = len(rows)
            rows.append(row)
        of.append(known[beginning])
    saved = sum(ends) - sum(ends[row] for row in rows)
    return Beginnings(rows, of, list(ends)) if saved >= WORTHWHILE * sum(map(len, ids)) else None


# Arguments of ``generate`` for the rows of a batch, each up to its end; they hold within the context.
Read = Callable[[Sequence[int], Sequence[int]], AbstractContextManager[dict[str, Any]]]


@dataclass(frozen=True)
class Batch:
    """What is to be continued.

    Attributes:
        ids: tokens of each row.
        pictures: of each row, encoded.
        read: how the model is given rows; see :data:`Read`.
        image_token: the one that pictures are repeated as; None where it is unknown, and beginnings with pictures are not shared.
        padding: a token that is masked.
        arguments: more of ``generate``.
    """

    ids: list[list[int]]
    pictures: Sequence[tuple[Any, ...]]
    read: Read
    image_token: int | None
    padding: int
    arguments: dict[str, Any] = field(default_factory=dict)


def continue_whole(model: Any, batch: Batch, max_new_tokens: int) -> Tensor:
    """Greedy continuations ``[B, new]``, each row read as a whole."""
    with batch.read(range(len(batch.ids)), [len(ids) for ids in batch.ids]) as inputs:
        output = model.generate(**inputs, **batch.arguments, max_new_tokens=max_new_tokens)
    return output[:, inputs["input_ids"].shape[1] if "input_ids" in inputs else 0 :]


class Sharing:
    """Continues batches of one model, and remembers whether it can share beginnings."""

    def __init__(self) -> None:
        self.possible = True

    def continue_shared(self, model: Any, batch: Batch, max_new_tokens: int) -> Tensor:
        """As :func:`continue_whole`; what rows share at their beginnings is read once."""
        found = _beginnings_of(batch) if self.possible else None
        if found is not None:
            # What ends rows is of all rows, and remembers where they began to be continued.
            arguments = {key: value for key, value in batch.arguments.items() if key != "stopping_criteria"}
            with batch.read(found.rows, found.ends) as inputs:
                out = model.generate(**inputs, **arguments, max_new_tokens=1, return_dict_in_generate=True)
            name = "cache" if "cache" in out else "past_key_values"  # releases differ in it
            if _can_be_shared(out[name]):
                return _go_on(model, {name: out[name]}, batch, found, max_new_tokens)
            self.possible = False
        return continue_whole(model, batch, max_new_tokens)


def _beginnings_of(batch: Batch) -> Beginnings | None:
    """Up to the last image token; without images, as far as all rows agree."""
    if not any(batch.pictures):
        same = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*batch.ids, strict=False)))
        end = min(same, *(len(ids) - 1 for ids in batch.ids))
        return find_beginnings(batch.ids, [()] * len(batch.ids), [end] * len(batch.ids)) if end > 0 else None
    ends = []
    for ids, pictures in zip(batch.ids, batch.pictures, strict=True):
        if pictures and (batch.image_token is None or batch.image_token not in ids):
            return None
        last = len(ids) - 1 - ids[::-1].index(batch.image_token or 0) if pictures else 0
        ends.append(min(last + 1, len(ids) - 1))
    return find_beginnings(batch.ids, [tuple(map(id, row)) for row in batch.pictures], ends)


def _can_be_shared(cache: Any) -> bool:
    """Whether keys and values can be handed to other rows: windows and states of other kinds count padding, or have forgotten the beginning."""
    return type(cache) is DynamicCache and all(type(one) is DynamicLayer for one in cache.layers)


def _go_on(model: Any, caches: dict[str, Any], batch: Batch, found: Beginnings, max_new_tokens: int) -> Tensor:
    (cache,) = caches.values()
    cache.batch_select_indices(torch.tensor(found.of, device=model.device))
    deltas = getattr(model.base_model, "rope_deltas", None)
    if deltas is not None:  # Qwen's models remember here how far positions lag behind tokens
        model.base_model.rope_deltas = deltas[torch.tensor(found.of, device=deltas.device)]
    beginnings = left_padded([ids[:end] for ids, end in zip(batch.ids, found.ends, strict=True)])
    rests = left_padded([ids[end:] for ids, end in zip(batch.ids, found.ends, strict=True)])
    ids_BL = torch.cat([beginnings, rests], dim=1).to(model.device)
    inputs = masked(ids_BL, batch.padding)
    output = model.generate(**inputs, **batch.arguments, **caches, max_new_tokens=max_new_tokens)
    return output[:, ids_BL.shape[1] :]
