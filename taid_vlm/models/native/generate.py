"""Greedy answers of a stock model for a batch of conversations."""

from typing import Any

import torch
from PIL import Image

from taid_vlm.models.generate import Answer, answers_of, left_padded
from taid_vlm.models.native.model import NativeModel
from taid_vlm.models.native.processor import NativeProcessor


@torch.no_grad()
def native_answers(
    model: NativeModel,
    processor: NativeProcessor,
    conversations: list[list[dict[str, Any]]],
    images: list[list[Image.Image]],
    max_new_tokens: int,
) -> list[Answer]:
    """Greedy continuation of each conversation, up to its end-of-turn token, and whether that came.

    Args:
        conversations: messages that end with a user's turn.
        images: the pictures of each conversation, in order of their placeholders, as RGB.
        max_new_tokens: upper limit for each answer.
    """
    prompts = [
        processor.render(messages, add_generation_prompt=True, sizes=[picture.size for picture in pictures]).ids
        for messages, pictures in zip(conversations, images, strict=True)
    ]
    end = processor.end_of_turn_id
    inputs = processor.inputs(*left_padded(prompts, end), torch.zeros(0, dtype=torch.long), images)
    ends = [one for one in dict.fromkeys([end, processor.tokenizer.eos_token_id]) if one is not None]
    out = model.generate(inputs.to(model.head.weight.device), max_new_tokens, ends)
    return answers_of(out, processor.tokenizer, ends)
