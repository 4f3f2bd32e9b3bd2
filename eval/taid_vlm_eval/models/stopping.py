"""Where an answer ends before the model ends it: at the first of the texts that a request names."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from taid_vlm_eval.models.protocol import Request

_MARGIN = 4  # tokens: a tokenizer may drop a space where the decoded tail begins


def stopping(tokenizer: Any, requests: Sequence[Request]) -> dict[str, StoppingCriteriaList]:
    """Arguments of ``generate`` with which each row ends once it has written one of its stops; none where no request has any."""
    stops = [tuple(filter(None, request.stops)) for request in requests]
    return {"stopping_criteria": StoppingCriteriaList([_Stops(tokenizer, stops)])} if any(stops) else {}


class _Stops(StoppingCriteria):
    """True for each row ``[B]`` whose newest tokens hold one of its stops.

    Every token that adds to a text adds at least a byte, so a tail of as many tokens as the longest stop has bytes is enough.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[tuple[str, ...]]) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        self._tails = [max((len(one.encode()) for one in row), default=0) + _MARGIN for row in stops]
        self._start: int | None = None

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        if self._start is None:  # called after every token, first after one; what stands before it is the prompt
            self._start = input_ids.shape[1] - 1
        new_BT = input_ids[:, self._start :]
        found = []
        for row, stops in enumerate(self._stops):
            text = self._tokenizer.decode(new_BT[row, -self._tails[row] :], skip_special_tokens=True) if stops else ""
            found.append(any(stop in text for stop in stops))
        return torch.tensor(found, device=input_ids.device)
