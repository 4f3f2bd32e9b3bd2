"""How likely given continuations of prompts are: teacher forcing, fp32 from the logits on.

How text becomes tokens at the boundary:

- In a chat template the prompt ends with the opening of an answer, and a continuation is tokenised by itself and put behind it:
  these are the tokens that the model would write.
- A plain request is text that goes on. Prompt and continuation are tokenised together and cut where the prompt alone ends; white
  space at the end of the prompt counts to the continuation. This is lm-evaluation-harness's rule, so figures can be compared.

Shapes: n tokens of an answer, V vocabulary.
"""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from taid_vlm_eval.models.protocol import Likelihood, Request


@runtime_checkable
class AnswerRows(Protocol):
    """A model that gives logits along given answers."""

    name: str

    @property
    def tokenizer(self) -> Any:
        """The model's own."""
        ...

    @property
    def chat_template(self) -> str | None:
        """The Jinja text that conversations are rendered with; None where the model has none."""
        ...

    @property
    def longest(self) -> int | None:
        """How many tokens the model reads at most; None for any number."""
        ...

    def answer_rows(self, requests: Sequence[Request], answers: Sequence[Sequence[int]]) -> list[Tensor]:
        """For each request the logits ``[n, V]`` that predict the n tokens of its answer, as the model computes them.

        ``prompt`` ends where the answer begins; see :func:`plain_ids` for plain requests.
        """
        ...


def log_likelihoods(
    model: AnswerRows, requests: Sequence[Request], continuations: Sequence[Sequence[str]]
) -> list[list[Likelihood]]:
    """See :meth:`Scoring.log_likelihoods`.

    Continuations of one request that differ in their last token alone share a row of the batch: single-token letters take one
    forward pass for each request. At most as many rows as there are requests run at a time. A continuation without tokens has
    log-likelihood 0.
    """
    tokens = [
        [tuple(continuation_ids(model.tokenizer, request, text)) for text in texts]
        for request, texts in zip(requests, continuations, strict=True)
    ]
    flat = [(index, place, ids) for index, several in enumerate(tokens) for place, ids in enumerate(several)]
    found = [[Likelihood(0.0, len(ids)) for ids in several] for several in tokens]
    groups = sharing_a_row([index for index, _, _ in flat], [ids for _, _, ids in flat])
    for start in range(0, len(groups), len(requests)):
        part = groups[start : start + len(requests)]
        # Which last token is given does not matter: the model reads what stands before it.
        firsts = [flat[group[0]] for group in part]
        every = model.answer_rows([requests[index] for index, _, _ in firsts], [ids for _, _, ids in firsts])
        for group, logits_nV in zip(part, every, strict=True):
            values = values_of(logits_nV, [flat[one][2] for one in group])
            for one, value in zip(group, values, strict=True):
                index, place, _ = flat[one]
                found[index][place] = value
    return found


def sharing_a_row(keys: Sequence[Hashable], continuations: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places of continuations that one row of a forward pass serves: of equal keys, and different in the last token alone.

    Continuations without tokens need none and are left out.
    """
    rows: dict[Any, list[int]] = {}
    for place, (key, ids) in enumerate(zip(keys, continuations, strict=True)):
        if ids:
            rows.setdefault((key, tuple(ids[:-1])), []).append(place)
    return list(rows.values())


def values_of(logits_nV: Tensor, continuations: Sequence[Sequence[int]]) -> list[Likelihood]:
    """Of continuations that differ in their last token alone, from the logits that predict the n tokens of each."""
    log_q_nV = torch.log_softmax(logits_nV, dim=-1, dtype=torch.float32)
    best_n = log_q_nV.argmax(dim=-1).tolist()
    tail = list(continuations[0][:-1])
    given = log_q_nV[range(len(tail)), tail].double().sum().item() if tail else 0.0
    last_V = log_q_nV[-1]
    return [Likelihood(given + last_V[ids[-1]].item(), len(ids), best_n == list(ids)) for ids in continuations]


def continuation_ids(tokenizer: Any, request: Request, text: str) -> list[int]:
    """Tokens of a continuation of the request's prompt."""
    if request.plain:
        context, rest = _cut_white_space(request.prompt)
        return list(tokenizer.encode(context + rest + text)[len(tokenizer.encode(context)) :])
    return list(tokenizer.encode(text, add_special_tokens=False))


def plain_ids(tokenizer: Any, request: Request) -> list[int]:
    """Tokens of a plain prompt, with what the tokenizer puts before a text. Of an empty one, the token that opens or ends texts."""
    ids = list(request.ids or tokenizer.encode(_cut_white_space(request.prompt)[0]))
    opening = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return ids or [opening]


def _cut_white_space(prompt: str) -> tuple[str, str]:
    kept = prompt.rstrip()
    return kept, prompt[len(kept) :]


def plain_prompts(
    tokenizer: Any, requests: Sequence[Request], answers: Sequence[Sequence[int]], longest: int | None
) -> list[list[int]]:
    """Tokens of plain prompts. One that is too long with its answer loses its beginning, as in lm-evaluation-harness.

    Args:
        longest: how many tokens the model reads at most; None for any number.
    """
    every = [plain_ids(tokenizer, request) for request in requests]
    if longest is None:
        return every
    return [ids[-max(1, longest + 1 - len(answer)) :] for ids, answer in zip(every, answers, strict=True)]
