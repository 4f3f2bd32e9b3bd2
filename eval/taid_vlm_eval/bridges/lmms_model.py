"""The model class of lmms-eval: its whole catalogue asked through our batches.

Imported by lmms-eval alone, which it needs.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
from lmms_eval.api.model import lmms

from taid_vlm.common.errors import UserError
from taid_vlm_eval.bridges.asking import answers, likelihoods
from taid_vlm_eval.bridges.messages import as_request
from taid_vlm_eval.bridges.wanted import Wanted, wanted
from taid_vlm_eval.models import open_model
from taid_vlm_eval.models.likelihood import AnswerRows, continuation_ids
from taid_vlm_eval.models.protocol import Request

USUAL_TOKENS = 1024  # of an answer where the task names no limit
USUAL_BATCH = 32
# lmms-eval puts this stop into every task that names none, and its own chat models pay no heed to it.
DEFAULT_STOP = "\n\n"


class TaidVLM(lmms):  # type: ignore[misc, unused-ignore]
    """Any model that ``open_model`` opens.

    Args:
        pretrained: as ``taid-vlm eval`` takes it: the folder of a student or checkpoint, or a hub id.
        batch_size: questions answered together; halved where memory runs out. "auto" is 32.
        device, dtype, adapter, trust_remote_code: see :func:`taid_vlm_eval.models.open_model`. Of several processes each takes the
            accelerator of its number.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 1,
        device: str | None = None,
        dtype: str | None = None,
        adapter: str | None = None,
        trust_remote_code: bool = False,
        max_batch_size: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise UserError(
                f"unknown model_args {', '.join(unknown)}; expected pretrained, device, dtype, adapter, trust_remote_code"
            )
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and device in (None, "cuda") and torch.cuda.is_available():
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        self.batch_size = USUAL_BATCH if str(batch_size).startswith("auto") else int(batch_size)
        self._opened = open_model(pretrained, adapter, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        groups: dict[Wanted, list[int]] = {}
        for place, request in enumerate(requests):
            one = wanted(request.args[2], USUAL_TOKENS)
            stops = tuple(stop for stop in one.stops if stop != DEFAULT_STOP)
            groups.setdefault(Wanted(one.max_new_tokens, stops), []).append(place)
        found: dict[int, str] = {}
        for one, places in groups.items():

            def request_of(number: int, one: Wanted = one, places: list[int] = places) -> Request:
                _, messages_of, _, record, task, split = requests[places[number]].args
                return as_request(messages_of(self.task_dict[task][split][record]), one.stops)

            texts = answers(self._opened, len(places), request_of, one, self.batch_size, "lmms-eval")
            found |= dict(zip(places, texts, strict=True))
        return [found[place] for place in range(len(requests))]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Mean negative log-likelihoods of continuations, the smallest of which lmms-eval takes, and whether they are greedy."""
        model = self._opened
        if not isinstance(model, AnswerRows):
            raise UserError(f"{model.name} cannot tell how likely an answer is; evaluate a checkpoint here")
        found: list[tuple[float, bool]] = []
        for start in range(0, len(requests), self.batch_size):
            asked, ids = [], []
            for request in requests[start : start + self.batch_size]:
                context, continuation, pictures_of, record, task, split = request.args
                document = self.task_dict[task][split][record]
                text = continuation(document) if callable(continuation) else continuation
                parts = [{"type": "image", "url": one} for one in pictures_of(document) or ()]
                content = [*parts, {"type": "text", "text": context}]
                asked.append(as_request([{"role": "user", "content": content}]))
                ids.append(continuation_ids(model.tokenizer, asked[-1], text))
            values = likelihoods(model, asked, ids, self.batch_size, "lmms-eval")
            found += [(-value / max(1, len(one)), greedy) for (value, greedy), one in zip(values, ids, strict=True)]
        return found

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise UserError(
            "the task asks in several rounds that depend on each other, which this bridge has not; leave it out"
        )
