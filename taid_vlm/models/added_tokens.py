"""Special tokens that a recipe adds to a tokenizer, for the markers of pictures."""

from typing import Any

import torch
from torch import nn

from taid_vlm.common.errors import UserError


@torch.no_grad()
def add_tokens(language_model: nn.Module, tokenizer: Any, tokens: list[str]) -> None:
    """Make each of ``tokens`` one special token, in place.

    The next ids are taken. Most embeddings have spare rows there, kept for this; where they end the embedding, and the head
    with it, is enlarged. A new row starts as the mean of all others, the same in every run.

    Raises:
        UserError: a token that is no more than space.
    """
    for token in tokens:
        if not token.strip():
            raise UserError(f"added_tokens holds {token!r}, expected a text such as <img>")
    known = tokenizer.get_vocab()
    new = [token for token in dict.fromkeys(tokens) if token not in known]
    first = len(tokenizer)
    # One that is there already becomes special, too: it must never be cut into pieces.
    tokenizer.add_tokens(list(dict.fromkeys(tokens)), special_tokens=True)
    model: Any = language_model
    rows = model.get_input_embeddings().weight.shape[0]
    if not new or len(tokenizer) <= rows:
        return
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tables = {id(m.weight): m.weight for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    for weight in tables.values():
        if not weight.is_meta:
            weight[rows:] = weight[:first].mean(dim=0)
