"""The teacher: frozen, and asked only for hidden states at answer rows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from taid_vlm.common.paths import resolve
from taid_vlm.models.assemble import join
from taid_vlm.models.fingerprint import fingerprint
from taid_vlm.models.generate import Answer, student_answers
from taid_vlm.models.language_model import load_language_model
from taid_vlm.models.native.generate import native_answers
from taid_vlm.models.native.loading import is_native, open_native
from taid_vlm.models.native.model import NativeModel
from taid_vlm.models.native.processor import NativeProcessor
from taid_vlm.models.processor import Processor, template_text
from taid_vlm.models.saved import empty_student, load_student
from taid_vlm.models.specs import LanguageModelSpec, StudentSpec, VisionEncoderSpec
from taid_vlm.models.student import Student
from taid_vlm.models.vision_encoder import VisionEncoder

TeacherModel = Student | NativeModel
PLAIN_TEMPLATE = "chatml"  # of a plain language model


@dataclass
class Teacher:
    """A frozen model with its processor, ours or a stock one.

    Attributes:
        fingerprint: changes with the weights, the template or the processing, for cache keys.
        encoder_spec: the vision encoder of a saved student, so that features of an equal frozen encoder can be shared.
        sees: whether it takes pictures.
        complete: of a teacher that several processes run together: makes inputs run the same modules on all of them, and
            inputs out of None where a process has none.
    """

    model: TeacherModel
    processor: Processor | NativeProcessor
    fingerprint: str
    encoder_spec: VisionEncoderSpec | None
    sees: bool
    complete: Callable[[Any], Any] | None = None

    @torch.no_grad()
    def hidden(self, inputs: Any) -> Tensor:
        """Hidden states ``[R, H]`` at the answer rows; ``inputs`` are those of its kind of model."""
        return self.model.hidden(inputs if self.complete is None else self.complete(inputs))

    def idle(self) -> None:
        """Ask for nothing, where a process has nothing to ask and others, which share the teacher, have."""
        if self.complete is not None:
            self.hidden(None)

    def answers(
        self, conversations: list[list[dict[str, Any]]], images: list[list[Image.Image]], max_new_tokens: int
    ) -> list[Answer]:
        """Greedy answers, one for each conversation, and whether each ended; see :func:`student_answers`."""
        if isinstance(self.model, NativeModel) and isinstance(self.processor, NativeProcessor):
            return native_answers(self.model, self.processor, conversations, images, max_new_tokens)
        assert isinstance(self.model, Student)
        assert isinstance(self.processor, Processor)
        return student_answers(self.model, self.processor, conversations, images, max_new_tokens)

    @property
    def vision_encoder(self) -> VisionEncoder | None:
        """The encoder of a saved student; a stock model's stays its own business."""
        return self.model.vision_encoder if isinstance(self.model, Student) else None

    def keep_head(self) -> None:
        """Drop what only :meth:`hidden` needs, which cannot be asked any more."""
        self.model.forget_body()

    @property
    def head_weight(self) -> Tensor:
        """``[V, H]``."""
        return self.model.head.weight

    @property
    def head_bias(self) -> Tensor | None:
        """``[V]`` or None."""
        return self.model.head.bias


def teacher_from_checkpoint(
    checkpoint: str,
    chat_template: str | None = None,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    trust_remote_code: bool = False,
) -> Teacher:
    """A stock vision-language checkpoint of transformers, or a student saved by this toolkit.

    Args:
        chat_template: of a stock checkpoint; that of its family when None. A saved student brings its own.
        dtype: of a stock checkpoint's weights in memory; those of a saved student are fp32.
        trust_remote_code: of a saved student, see :func:`load_student`.

    Raises:
        UserError: see :func:`resolve`, :func:`load_student` and :func:`open_native`.
    """
    source = resolve(checkpoint)
    if not is_native(source):
        return teacher_from_saved(source, trust_remote_code)
    model, processor = open_native(source, chat_template, revision, dtype)
    return Teacher(model, processor, fingerprint(model, processor), None, sees=True)


def teacher_from_saved(path: str, trust_remote_code: bool = False) -> Teacher:
    """Any student saved by this toolkit can teach.

    Raises:
        UserError: see :func:`resolve` and :func:`load_student`.
    """
    loaded = load_student(resolve(path), trust_remote_code=trust_remote_code)
    return _frozen(loaded.student, loaded.processor, loaded.spec)


def teacher_from_language_model(
    spec: LanguageModelSpec, chat_template: str | None = None, dtype: torch.dtype = torch.float32
) -> Teacher:
    """A plain causal language model as the teacher of a plain language model.

    Raises:
        UserError: see :func:`load_language_model`.
    """
    model, tokenizer = load_language_model(spec, dtype)
    student, processor = join(
        StudentSpec(language_model=spec), model, tokenizer, None, template_text(chat_template or PLAIN_TEMPLATE)
    )
    return _frozen(student, processor, None)


def teacher_without_weights(
    checkpoint: str | None,
    spec: LanguageModelSpec | None,
    chat_template: str | None,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    trust_remote_code: bool = False,
) -> Teacher:
    """The teacher that a checkpoint or a language model would give, on the meta device and without a fingerprint.

    Raises:
        UserError: as the functions that load it.
    """
    if checkpoint is not None and is_native(resolve(checkpoint)):
        model, processor = open_native(resolve(checkpoint), chat_template, revision, dtype, load_weights=False)
        return Teacher(model, processor, "", None, sees=True)
    if checkpoint is not None:
        student, own, saved = empty_student(resolve(checkpoint), trust_remote_code=trust_remote_code)
        return Teacher(student, own, "", saved.vision_encoder, sees=saved.vision_encoder is not None)
    assert spec is not None
    with torch.device("meta"):
        language_model, tokenizer = load_language_model(spec, dtype, load_weights=False)
        template = template_text(chat_template or PLAIN_TEMPLATE)
        student, own = join(StudentSpec(language_model=spec), language_model, tokenizer, None, template)
    return Teacher(student.requires_grad_(False).eval(), own, "", None, sees=False)


class NamedTeacher(Protocol):
    """A teacher as a recipe names it: a checkpoint or a language model."""

    @property
    def checkpoint(self) -> str | None: ...
    @property
    def language_model(self) -> LanguageModelSpec | None: ...
    @property
    def chat_template(self) -> str | None: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def trust_remote_code(self) -> bool: ...


def outline_of(named: NamedTeacher, dtype: torch.dtype = torch.float32) -> Teacher:
    """As :func:`teacher_without_weights`, of the teacher that a recipe names."""
    return teacher_without_weights(
        named.checkpoint, named.language_model, named.chat_template, named.revision, dtype, named.trust_remote_code
    )


def _frozen(student: Student, processor: Processor, spec: StudentSpec | None) -> Teacher:
    student.requires_grad_(False).eval()
    encoder = spec.vision_encoder if spec is not None else None
    made = fingerprint(student, processor, _sight(spec) if spec is not None else None)
    return Teacher(student, processor, made, encoder, sees=encoder is not None)


def _sight(spec: StudentSpec) -> list[Any]:
    """What of encoder and projector decides the forward and is in no config; where their weights lie does not."""
    if spec.vision_encoder is None or spec.projector is None:
        return []
    encoder = spec.vision_encoder.model_dump(mode="json", exclude={"weights", "weights_match"})
    if Path(spec.vision_encoder.name).expanduser().is_dir():  # its config tells more
        del encoder["name"]
    return [encoder, spec.projector.model_dump(mode="json", exclude={"weights"})]
