"""The teacher of a recipe, with its weights or, for a cache that may need none, without."""

from collections.abc import Callable

import torch

from taid_vlm.models.language_model import use_attention
from taid_vlm.models.student import Student
from taid_vlm.models.teacher import (
    Teacher,
    outline_of,
    teacher_from_checkpoint,
    teacher_from_language_model,
)
from taid_vlm.recipe.schema import Recipe
from taid_vlm.recipe.teacher_spec import TeacherSpec
from taid_vlm.training.cache.identity import identity_of, known_teacher, remember
from taid_vlm.training.placement import place_teacher


def open_teacher(recipe: Recipe, *, cached: bool) -> Teacher:
    """The teacher, on the CPU.

    Args:
        cached: without weights, where it is known which cache is its own.

    Raises:
        UserError: as the functions that load it.
    """
    spec = recipe.teacher
    assert spec is not None
    # Whichever way it comes, what is drawn afterwards is the same.
    with torch.random.fork_rng(devices=[]):
        teacher = known_teacher(spec, getattr(torch, spec.dtype)) if cached else None
        if teacher is None:
            teacher = _loaded(spec)
    if recipe.training.attention is not None and isinstance(teacher.model, Student):
        use_attention(teacher.model.language_model, recipe.training.attention)
    return teacher


def late_teacher(recipe: Recipe, device: torch.device, say: Callable[[str], None], dtype: torch.dtype) -> Teacher:
    """The teacher with its weights where the recipe places them, after all: its cache is not complete."""
    teacher = open_teacher(recipe, cached=False)
    assert recipe.teacher is not None
    place_teacher(teacher, recipe.teacher, device, say, dtype)
    return teacher


def _loaded(spec: TeacherSpec) -> Teacher:
    dtype: torch.dtype = getattr(torch, spec.dtype)
    if spec.placement == "served":
        return outline_of(spec)
    identity = identity_of(spec) if spec.cache.enabled else None
    if spec.checkpoint is not None:
        teacher = teacher_from_checkpoint(
            spec.checkpoint, spec.chat_template, spec.revision, dtype, spec.trust_remote_code
        )
    else:
        assert spec.language_model is not None
        teacher = teacher_from_language_model(spec.language_model, spec.chat_template, dtype)
    remember(identity, spec, teacher)
    return teacher
