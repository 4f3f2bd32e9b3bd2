"""Greedy is greedy, whatever a checkpoint says on sampling, beams, penalties or lengths; where an answer ends is kept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig


def greedy(ends: Sequence[int], padding: int) -> GenerationConfig:
    """A configuration that takes the likeliest token until one of ``ends``."""
    return GenerationConfig(do_sample=False, num_beams=1, eos_token_id=list(ends), pad_token_id=padding)


@contextmanager
def only_greedy(model: Any, ends: Sequence[int], padding: int) -> Iterator[Any]:
    """The model, which generates greedily within the context; behind it, its own configuration is in place again.

    Arguments of ``generate`` are not enough: what they leave out comes from the model's configuration.
    """
    own, model.generation_config = model.generation_config, greedy(ends, padding)
    try:
        yield model
    finally:
        model.generation_config = own


def ends_of(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: those that the checkpoint names, and the one by which its tokenizer ends texts."""
    named = model.generation_config.eos_token_id
    every = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    return list(dict.fromkeys(one for one in every if one is not None))
