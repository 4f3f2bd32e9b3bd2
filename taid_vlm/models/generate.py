"""Greedy answers for a batch of conversations."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.models.image_text import image_places
from taid_vlm.models.processor import Processor
from taid_vlm.models.sampling import Draws
from taid_vlm.models.student import ModelInputs, Student

# Greedy is greedy, whatever the checkpoint's generation config asks for.
GREEDY = {"do_sample": False, "repetition_penalty": 1.0}


class Answer(NamedTuple):
    """What a model says; ``ended`` with the token that ends a turn, or else cut at the limit."""

    text: str
    ended: bool


def generate_answers(
    student: Student,
    processor: Processor,
    conversations: list[list[dict[str, Any]]],
    images: list[list[Image.Image]],
    max_new_tokens: int,
) -> list[str]:
    """Greedy continuation of each conversation, up to its end-of-turn token.

    Args:
        conversations: messages that end with a user's turn.
        images: the pictures of each conversation, in order of their placeholders, as RGB.
        max_new_tokens: upper limit for each answer.

    Raises:
        UserError: a conversation whose pictures and placeholders differ in number.
    """
    return [one.text for one in student_answers(student, processor, conversations, images, max_new_tokens)]


@torch.no_grad()
def student_answers(
    student: Student,
    processor: Processor,
    conversations: list[list[dict[str, Any]]],
    images: list[list[Image.Image]],
    max_new_tokens: int,
) -> list[Answer]:
    """As :func:`generate_answers`, with whether each answer ended."""
    prompts = []
    for messages, pictures in zip(conversations, images, strict=True):
        places = image_places(messages)
        if places != len(pictures):
            raise UserError(f"a conversation asks for {places} pictures and has {len(pictures)}")
        sizes = [picture.size for picture in pictures]
        prompts.append(processor.render(messages, add_generation_prompt=True, sizes=sizes).ids)
    device = student.head.weight.device
    inputs = ModelInputs(*left_padded(prompts, processor.end_of_turn_id), torch.zeros(0, dtype=torch.long))
    flat = [picture for pictures in images for picture in pictures]
    if flat:
        tiles = tuple(processor.tiles_per_image(picture.size) for picture in flat)
        inputs = replace(inputs, pixel_values=processor.pixel_values(flat), tiles=tiles)
    inputs = inputs.to(device)
    out = greedy_ids(student, processor, student.embed(inputs), inputs.attention_mask, max_new_tokens)
    return answers_of(out, processor.tokenizer, [processor.end_of_turn_id])


def greedy_ids(
    student: Student, processor: Processor, embeddings: Tensor, attention_mask: Tensor, max_new_tokens: int
) -> Tensor:
    """Ids ``[B, new]`` of the greedy continuation of embedded prompts ``[B, L, H]``, padded on the left."""
    return continued_ids(student, processor, embeddings, attention_mask, max_new_tokens)


def continued_ids(
    student: Student,
    processor: Processor,
    embeddings: Tensor,
    attention_mask: Tensor,
    max_new_tokens: int,
    draws: Draws | None = None,
) -> Tensor:
    """As :func:`greedy_ids`, with the tokens that ``draws`` chooses where there are any."""
    from transformers import LogitsProcessorList

    language_model: Any = student.language_model
    end = processor.end_of_turn_id  # some families end a text, not a turn, with the tokenizer's EOS
    return language_model.generate(
        inputs_embeds=embeddings,
        attention_mask=attention_mask,
        max_new_tokens=max_new_tokens,
        **GREEDY,
        eos_token_id=end,
        pad_token_id=end,
        logits_processor=None if draws is None else LogitsProcessorList([draws]),
    )


def left_padded(prompts: list[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids and attention mask ``[B, L]`` of prompts that end together."""
    longest = max(len(ids) for ids in prompts)
    input_ids = torch.full((len(prompts), longest), pad_id)
    attention_mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(prompts):
        input_ids[row, longest - len(ids) :] = torch.tensor(ids)
        attention_mask[row, longest - len(ids) :] = 1
    return input_ids, attention_mask


def words_of(ids: Tensor, tokenizer: Any) -> list[str]:
    """Generated ids ``[B, new]`` as text."""
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


def answers_of(ids: Tensor, tokenizer: Any, ends: list[int]) -> list[Answer]:
    """Generated ids ``[B, new]`` as text, and whether one of ``ends`` is among them."""
    ended = torch.isin(ids, torch.tensor(ends, device=ids.device)).any(dim=1).tolist()
    return [Answer(text, end) for text, end in zip(words_of(ids, tokenizer), ended, strict=True)]
