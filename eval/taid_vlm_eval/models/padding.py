"""Rows of tokens as one tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor

NONE = -1  # in the place of a token, where a row has none


def left_padded(rows: Sequence[Sequence[int]], fill: int = NONE) -> Tensor:
    """``[B, L]``: rows that end together."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[fill] * (longest - len(row)) + list(row) for row in rows], dtype=torch.long)


def masked(ids_BL: Tensor, padding: int) -> dict[str, Tensor]:
    """Arguments of a model that reads ``ids_BL``, with the token ``padding``, masked, where a row has none."""
    return {"input_ids": ids_BL.masked_fill(ids_BL == NONE, padding), "attention_mask": ids_BL.ne(NONE).long()}
