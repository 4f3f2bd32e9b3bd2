"""The teacher: frozen, and asked only for hidden states at answer rows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from taid_vlm.common.paths import resolve
from taid_vlm.models.assemble import join
from taid_vlm.models.fingerprint import fingerprint
from taid_vlm.models.language_model import load_language_model
from taid_vlm.models.processor import Processor, template_text
from taid_vlm.models.saved import empty_student, load_student
from taid_vlm.models.specs import LanguageModelSpec, StudentSpec, VisionEncoderSpec
from taid_vlm.models.student import ModelInputs, Student


@dataclass
class Teacher:
    """A frozen model with its processor.

    Attributes:
        fingerprint: changes with the weights, the template or the processing, for cache keys.
        encoder_spec: the vision encoder, so that features of an equal frozen encoder can be shared.
    """

    model: Student
    processor: Processor
    fingerprint: str
    encoder_spec: VisionEncoderSpec | None

    @torch.no_grad()
    def hidden(self, inputs: ModelInputs) -> Tensor:
        """Hidden states ``[R, H]`` at the answer rows."""
        return self.model.hidden(inputs)

    @property
    def head_weight(self) -> Tensor:
        """``[V, H]``."""
        return self.model.head.weight

    @property
    def head_bias(self) -> Tensor | None:
        """``[V]`` or None."""
        return self.model.head.bias


def teacher_from_saved(path: str) -> Teacher:
    """Any student saved by this toolkit can teach.

    Raises:
        UserError: see :func:`resolve` and :func:`load_student`.
    """
    loaded = load_student(resolve(path))
    return _frozen(loaded.student, loaded.processor, loaded.spec.vision_encoder)


def teacher_from_language_model(spec: LanguageModelSpec, chat_template: str) -> Teacher:
    """A plain causal language model as the teacher of a plain language model.

    Raises:
        UserError: see :func:`load_language_model`.
    """
    model, tokenizer = load_language_model(spec)
    student, processor = join(StudentSpec(language_model=spec), model, tokenizer, None, template_text(chat_template))
    return _frozen(student, processor, None)


def teacher_without_weights(checkpoint: str | None, spec: LanguageModelSpec | None, chat_template: str) -> Teacher:
    """The teacher that a checkpoint or a language model would give, on the meta device and without a fingerprint.

    Raises:
        UserError: as the functions that load it.
    """
    if checkpoint is not None:
        student, processor, saved = empty_student(resolve(checkpoint))
        return Teacher(student, processor, "", saved.vision_encoder)
    assert spec is not None
    with torch.device("meta"):
        model, tokenizer = load_language_model(spec, load_weights=False)
        student, processor = join(
            StudentSpec(language_model=spec), model, tokenizer, None, template_text(chat_template)
        )
    return Teacher(student.requires_grad_(False).eval(), processor, "", None)


def _frozen(student: Student, processor: Processor, encoder: VisionEncoderSpec | None) -> Teacher:
    student.requires_grad_(False).eval()
    return Teacher(student, processor, fingerprint(student, processor), encoder)
