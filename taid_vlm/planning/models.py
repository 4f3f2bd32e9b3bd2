"""Student and teacher of a recipe on the meta device: configs and tokenizers are read, weights are not."""

from dataclasses import dataclass

import torch

from taid_vlm.losses import LossSpec
from taid_vlm.models.assemble import build_student
from taid_vlm.models.processor import Processor
from taid_vlm.models.student import Student
from taid_vlm.models.teacher import Teacher, outline_of
from taid_vlm.models.vocabulary import shared_vocabulary
from taid_vlm.recipe.schema import Recipe


@dataclass
class Models:
    """What a run would put together.

    Attributes:
        vocabulary: leading token ids that both models share; None without a teacher.
        shares_features: the teacher's encoder is the student's frozen one, as far as specs tell.
    """

    student: Student
    processor: Processor
    teacher: Teacher | None
    vocabulary: int | None
    shares_features: bool


def build_models(recipe: Recipe, spec: LossSpec) -> Models:
    """Build both without weights.

    Raises:
        UserError: what training would refuse: parts that are not there or do not fit, tokenizers that differ.
    """
    student, processor = build_student(recipe.student, recipe.seed, load_weights=False)
    if recipe.teacher is None or not spec.needs_teacher:
        return Models(student, processor, None, None, False)
    teacher = outline_of(recipe.teacher, getattr(torch, recipe.teacher.dtype))
    rows = (student.head.weight.shape[0], teacher.head_weight.shape[0])
    vocabulary = shared_vocabulary(processor.tokenizer, teacher.processor.tokenizer, *rows)
    # The same spec may stand for other weights, which only training can compare.
    same = recipe.student.vision_encoder == teacher.encoder_spec and teacher.encoder_spec is not None
    return Models(student, processor, teacher, vocabulary, same and recipe.data.cache_image_features)
