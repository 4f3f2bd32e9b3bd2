"""How likely given continuations of prompts are: teacher forcing, the head at the needed rows alone, fp32 from the logits on.

How text becomes tokens at the boundary:

- In a chat template the prompt ends with the opening of an answer, and a continuation is tokenised by itself and put behind it:
  these are the tokens that the model would write.
- A plain request is text that goes on. Prompt and continuation are tokenised together and cut where the prompt alone ends; white
  space at the end of the prompt counts to the continuation. This is lm-evaluation-harness's rule, so figures can be compared.

Shapes: B sequences, L positions, R rows, H hidden size, V vocabulary.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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


def rows_of_model(model: Any, inputs: Mapping[str, Tensor], rows_R: Tensor) -> Tensor:
    """Logits ``[R, V]`` of a transformers model at rows of the flattened ``B * L``, scaled and capped as it does.

    The head is handed the hidden states of these rows alone. A model whose head cannot be found that way gives all its logits.
    """
    given = False

    def keep_rows(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        nonlocal given
        hidden_BLH = arguments[0]
        if hidden_BLH.shape[:-1] != inputs["attention_mask"].shape:
            return None
        given = True
        return (hidden_BLH.flatten(0, 1)[rows_R].unsqueeze(0), *arguments[1:])

    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(keep_rows) if head is not None else None
    try:
        logits = model(**inputs, use_cache=False).logits
    finally:
        if handle is not None:
            handle.remove()
    return logits[0] if given else logits.flatten(0, 1)[rows_R]


def with_answers(
    inputs: Mapping[str, Tensor], answers: Sequence[Sequence[int]], pad_id: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Prompts that end in answers, padded on the right, and the rows ``[R]`` that predict the answers' tokens, one answer after the other.

    On the right, because plain forwards count positions from the left edge.

    Args:
        inputs: of a batch of prompts, padded on either side; every tensor of the shape of ``input_ids`` counts positions.
        answers: for each prompt, at least one token; the last is not read by the model, only predicted.
    """
    mask_BL = inputs["attention_mask"].bool()
    lengths = mask_BL.sum(dim=1).tolist()
    width = max(length + len(answer) - 1 for length, answer in zip(lengths, answers, strict=True))
    made = dict(inputs)
    for name, tensor in inputs.items():
        if tensor.shape != mask_BL.shape:
            continue
        fill = pad_id if name == "input_ids" else 0
        made[name] = tensor.new_full((len(tensor), width), fill)
        for row, answer in enumerate(answers):
            end = lengths[row] + len(answer) - 1
            made[name][row, : lengths[row]] = tensor[row][mask_BL[row]]
            if name == "input_ids":
                made[name][row, lengths[row] : end] = tensor.new_tensor(answer[:-1])
            elif name == "attention_mask":
                made[name][row, lengths[row] : end] = 1
    return made, rows_before(lengths, answers, width)


def rows_before(lengths: Sequence[int], answers: Sequence[Sequence[int]], width: int) -> Tensor:
    """The rows ``[R]`` of the flattened ``B * L`` that predict the answers' tokens.

    Args:
        lengths: of the prompts, in tokens, which begin at the left edge.
        width: L.
    """
    starts = [row * width + length - 1 for row, length in enumerate(lengths)]
    return torch.tensor(
        [start + place for start, one in zip(starts, answers, strict=True) for place in range(len(one))]
    )


@torch.inference_mode()
def stock_rows(
    model: Any,
    tokenizer: Any,
    inputs_of: Callable[[Sequence[Request]], AbstractContextManager[Mapping[str, Tensor]]],
    requests: Sequence[Request],
    answers: Sequence[Sequence[int]],
) -> list[Tensor]:
    """:meth:`AnswerRows.answer_rows` of a transformers model.

    Args:
        inputs_of: template, tokens and pixels of requests that are not plain, all with pictures or all without, for one forward
            pass within the context.
    """
    found: list[Tensor | None] = [None] * len(requests)
    kinds = [(request.plain, bool(request.images)) for request in requests]
    for kind in dict.fromkeys(kinds):
        places = [place for place, one in enumerate(kinds) if one == kind]
        group, wanted = [requests[place] for place in places], [answers[place] for place in places]
        plain = nullcontext(_plain_inputs(model, tokenizer, group, wanted)) if kind[0] else None
        with plain or inputs_of(group) as inputs:
            made, rows_R = with_answers(inputs, wanted, tokenizer.pad_token_id)
            logits_RV = rows_of_model(model, made, rows_R.to(model.device))
        for place, part in zip(places, logits_RV.split([len(one) for one in wanted]), strict=True):
            found[place] = part
    return [one for one in found if one is not None]


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


def _plain_inputs(
    model: Any, tokenizer: Any, requests: Sequence[Request], answers: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    prompts = plain_prompts(tokenizer, requests, answers, longest)
    width = max(map(len, prompts))
    input_ids = torch.full((len(prompts), width), tokenizer.pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(prompts):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        attention_mask[row, : len(ids)] = 1
    return {"input_ids": input_ids.to(model.device), "attention_mask": attention_mask.to(model.device)}


def at_the_left(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``inputs_embeds`` and ``attention_mask`` padded on the left, padded on the right."""
    mask_BL = inputs["attention_mask"]
    order_BL = mask_BL.argsort(dim=1, descending=True, stable=True)
    embeds_BLH = inputs["inputs_embeds"]
    moved = embeds_BLH.gather(1, order_BL.unsqueeze(-1).expand_as(embeds_BLH))
    return {"inputs_embeds": moved, "attention_mask": mask_BL.gather(1, order_BL)}
