"""From a :class:`StudentSpec` to a student and its processor."""

from typing import Any

import torch
from torch import nn

from taid_vlm.models.language_model import load_language_model
from taid_vlm.models.processor import ImageTokens, Processor, template_text
from taid_vlm.models.projector import build_projector
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import Student
from taid_vlm.models.trained_parts import apply_trained_parts
from taid_vlm.models.vision_encoder import VisionEncoder, build_vision_encoder


def build_student(spec: StudentSpec, seed: int = 0) -> tuple[Student, Processor]:
    """Load the pretrained parts, draw the projector from ``seed``, and free what the spec trains.

    Raises:
        UserError: a part that cannot be found or does not fit the others.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_vision_encoder(spec.vision_encoder) if spec.vision_encoder is not None else None
        language_model, tokenizer = load_language_model(spec.language_model)
        student, processor = join(spec, language_model, tokenizer, encoder, template_text(spec.chat_template))
        apply_trained_parts(student, spec.train)
    return student, processor


def join(
    spec: StudentSpec, language_model: nn.Module, tokenizer: Any, encoder: VisionEncoder | None, template: str
) -> tuple[Student, Processor]:
    """Put parts together that are already built."""
    if encoder is None or spec.projector is None or spec.image_token is None:
        return Student(language_model), Processor(tokenizer, template, None)
    embeddings = language_model.get_input_embeddings().weight  # type: ignore[operator]
    projector = build_projector(
        spec.projector.name, encoder.contract, embeddings.shape[1], float(embeddings.detach().float().std())
    )
    tokens = projector.tokens_out(encoder.contract.grid)  # type: ignore[operator]
    processor = Processor(tokenizer, template, ImageTokens(spec.image_token, tokens, encoder.contract.image))
    return Student(language_model, encoder, projector, processor.image_token_id), processor
