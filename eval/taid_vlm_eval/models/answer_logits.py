"""Logits along given answers: one forward pass of prompts that end in answers, the head at the needed rows alone.

Shapes: B sequences, L positions, R rows, H hidden size, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from taid_vlm_eval.models.likelihood import plain_prompts
from taid_vlm_eval.models.padding import left_padded, masked
from taid_vlm_eval.models.protocol import Request


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


def _plain_inputs(
    model: Any, tokenizer: Any, requests: Sequence[Request], answers: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    prompts = plain_prompts(tokenizer, requests, answers, longest)
    inputs = masked(left_padded(prompts), tokenizer.pad_token_id)
    return {key: value.to(model.device) for key, value in inputs.items()}


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


def at_the_left(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``inputs_embeds`` and ``attention_mask`` padded on the left, padded on the right."""
    mask_BL = inputs["attention_mask"]
    order_BL = mask_BL.argsort(dim=1, descending=True, stable=True)
    embeds_BLH = inputs["inputs_embeds"]
    moved = embeds_BLH.gather(1, order_BL.unsqueeze(-1).expand_as(embeds_BLH))
    return {"inputs_embeds": moved, "attention_mask": mask_BL.gather(1, order_BL)}
