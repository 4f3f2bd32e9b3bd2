"""Recipes with other training options, and states as a resumed run finds them."""

import io
from typing import Any

import torch

from taid_vlm.recipe import Recipe


def changed(recipe: Recipe, **training: Any) -> Recipe:
    """The recipe with other keys under ``training``."""
    return Recipe.model_validate({**recipe.model_dump(), "training": {**recipe.training.model_dump(), **training}})


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """What is loaded of a state that was saved."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded
