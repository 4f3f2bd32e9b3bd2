"""Tokens drawn by numbers that are given, so that a text depends on its own numbers and not on what is written beside it.

Shapes: B texts, N tokens of each, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """From which distribution a token is drawn.

    Attributes:
        temperature: logits are divided by it; 0 takes the likeliest token.
        top_k: only so many of the likeliest tokens; 0 is all.
        top_p: then only the likeliest that together have this probability (nucleus sampling, arXiv 1904.09751); 1 is all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


def drawn(logits_BV: Tensor, numbers_B: Tensor, sampling: Sampling) -> Tensor:
    """Ids ``[B]``, each where the distribution function of its row passes its number.

    Args:
        numbers_B: fp64, from 0 (included) to 1 (excluded).
    """
    if sampling.temperature == 0:
        return logits_BV.argmax(dim=-1)
    probabilities_BV = _only_likeliest(logits_BV.float() / sampling.temperature, sampling)
    # In fp64, where 1 - 2**-53 times the last sum stays below it: the last token that can come is never passed.
    sums_BV = probabilities_BV.double().cumsum(dim=-1)
    passed_B1 = numbers_B.to(sums_BV.device).unsqueeze(-1) * sums_BV[:, -1:]
    ids_B1 = torch.searchsorted(sums_BV, passed_B1, right=True)
    # Logits that are NaN give any token; the loss is NaN as well, and the step is skipped.
    return ids_B1.squeeze(-1).clamp(max=logits_BV.shape[-1] - 1)


def _only_likeliest(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    if sampling.top_k:
        likeliest = logits_BV.topk(min(sampling.top_k, logits_BV.shape[-1])).values
        logits_BV = logits_BV.masked_fill(logits_BV < likeliest[:, -1:], -torch.inf)
    probabilities_BV = logits_BV.softmax(dim=-1)
    if sampling.top_p < 1:
        sorted_BV, order_BV = probabilities_BV.sort(dim=-1, descending=True, stable=True)
        before_BV = sorted_BV.cumsum(dim=-1) - sorted_BV  # the first is always in
        sorted_BV = sorted_BV.masked_fill(before_BV >= sampling.top_p, 0)
        probabilities_BV = torch.zeros_like(probabilities_BV).scatter(-1, order_BV, sorted_BV)
    return probabilities_BV


class Draws:
    """A logits processor of transformers that leaves one token possible: the drawn one, which greedy search then takes.

    Args:
        numbers_BN: as in :func:`drawn`, a column for each token. It is used up by one generation.
    """

    def __init__(self, numbers_BN: Tensor, sampling: Sampling) -> None:
        self.numbers_BN, self.sampling, self.done = numbers_BN, sampling, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores ``[B, V]`` of which all but one are -inf."""
        ids_B = drawn(scores, self.numbers_BN[:, self.done], self.sampling)
        self.done += 1
        return torch.full_like(scores, -torch.inf).scatter_(-1, ids_B.unsqueeze(-1), 0)
