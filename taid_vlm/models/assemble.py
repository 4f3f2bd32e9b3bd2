"""From a :class:`StudentSpec` to a student and its processor."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from taid_vlm.models.added_tokens import add_tokens
from taid_vlm.models.language_model import check_vision_family, embedding_std, load_language_model
from taid_vlm.models.processor import ImageTokens, Processor, template_text
from taid_vlm.models.projectors import build_projector
from taid_vlm.models.projectors.weights import load_projector
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import Student
from taid_vlm.models.trained_parts import apply_trained_parts
from taid_vlm.models.vision_encoder import VisionEncoder, build_vision_encoder


def build_student(spec: StudentSpec, seed: int = 0, *, load_weights: bool = True) -> tuple[Student, Processor]:
    """Load the pretrained parts, draw the projector from ``seed`` unless it has weights, and free what the spec trains.

    Args:
        load_weights: False reads configs and the tokenizer alone, and gives a student on the meta device.

    Raises:
        UserError: a part that cannot be found or does not fit the others.
    """
    where = nullcontext() if load_weights else torch.device("meta")
    with torch.random.fork_rng(devices=[]), where:
        torch.manual_seed(seed)
        encoder = None
        if spec.vision_encoder is not None:
            encoder = build_vision_encoder(spec.vision_encoder, load_weights)
        language_model, tokenizer = load_language_model(spec.language_model, load_weights=load_weights)
        add_tokens(language_model, tokenizer, spec.added_tokens)
        student, processor = join(spec, language_model, tokenizer, encoder, template_text(spec.chat_template))
        if load_weights and student.projector is not None and spec.projector and spec.projector.weights != "random":
            load_projector(student.projector, spec.projector.weights)
        apply_trained_parts(student, spec.train)
    return student, processor


def join(
    spec: StudentSpec, language_model: nn.Module, tokenizer: Any, encoder: VisionEncoder | None, template: str
) -> tuple[Student, Processor]:
    """Put parts together that are already built."""
    if encoder is None or spec.projector is None or spec.image_token is None:
        return Student(language_model), Processor(tokenizer, template, None)
    check_vision_family(language_model)
    hidden_size = language_model.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    projector = build_projector(spec.projector, encoder.contract, hidden_size, embedding_std(language_model))
    tokens = projector.tokens_out()  # type: ignore[operator]
    processor = Processor(
        tokenizer, template, ImageTokens(spec.image_token, tokens, encoder.contract.image, spec.images)
    )
    return Student(language_model, encoder, projector, processor.image_token_id), processor
