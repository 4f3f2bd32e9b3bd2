"""Replies that the teacher writes itself to the questions of the training split, at a temperature: the first sentence of each."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.files import new_folder
from taid_vlm.models.generate import continued_ids, left_padded, words_of
from taid_vlm.models.sampling import Draws, Sampling
from taid_vlm.models.student import ModelInputs, Student
from taid_vlm.models.teacher import Teacher, teacher_from_language_model
from taid_vlm.recipe import load_recipe
from taid_vlm.study.definitions import words_folder, write_exchanges
from taid_vlm.training.precision import autocast

BATCH = 32
MAX_NEW_TOKENS = 32
SEED = 0
QUESTIONS = 1500  # the first of the training split: more than any run meets


def own_folder(temperature: float) -> Path:
    """The folder with ``train.jsonl`` alone, in the cache; written when it is not there."""
    folder = cache_folder() / "study" / f"words-own-t{temperature:g}-1"
    if not folder.is_dir():
        spec = load_recipe("study/text/student").teacher
        assert spec is not None
        assert spec.language_model is not None
        teacher = teacher_from_language_model(spec.language_model, spec.chat_template)
        rows = (words_folder() / "train.jsonl").read_text().splitlines()[:QUESTIONS]
        questions = [str(json.loads(row)["messages"][0]["content"]) for row in rows]
        replies = sampled(teacher, questions, temperature)
        said = [(q, first_sentence(reply)) for q, reply in zip(questions, replies, strict=True)]
        with new_folder(folder) as temporary:
            write_exchanges(temporary / "train.jsonl", [(q, reply) for q, reply in said if reply])
    return folder


def first_sentence(text: str) -> str:
    """Up to its end mark, or up to the end of the text or line."""
    found = re.match(r"[^\n]*?[.!?](?=\s|$)|[^\n]*", text.strip())
    return found.group(0).strip() if found else ""


@torch.no_grad()
def sampled(teacher: Teacher, questions: Sequence[str], temperature: float) -> list[str]:
    """A reply to each question; the draws of a reply are its own, whatever is written beside it."""
    model, processor = teacher.model, teacher.processor
    assert isinstance(model, Student)
    numbers = torch.rand(
        len(questions), MAX_NEW_TOKENS, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED)
    )
    found: list[str] = []
    for start in range(0, len(questions), BATCH):
        some = questions[start : start + BATCH]
        messages: list[list[dict[str, Any]]] = [[{"role": "user", "content": question}] for question in some]
        prompts = [processor.render(one, add_generation_prompt=True).ids for one in messages]
        inputs = ModelInputs(*left_padded(prompts, processor.end_of_turn_id), torch.zeros(0, dtype=torch.long))
        draws = Draws(numbers[start : start + BATCH], Sampling(temperature))
        with autocast(torch.device("cpu"), "bf16"):
            ids = continued_ids(
                model,
                processor,  # type: ignore[arg-type]
                model.embed(inputs),
                inputs.attention_mask,
                MAX_NEW_TOKENS,
                draws,
            )
        found += words_of(ids, processor.tokenizer)
    return found
