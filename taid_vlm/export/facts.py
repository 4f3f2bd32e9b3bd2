"""What a student is, as far as it decides which stock class can hold it.

Nothing here looks at a weight, so the facts of a student on the meta device are those of the trained one.
"""

from dataclasses import dataclass, field
from typing import Any

from taid_vlm.export.towers import conversions, feature_survives
from taid_vlm.models.image_text import INTERNVL, SMOLVLM_AROUND, SMOLVLM_WHOLE
from taid_vlm.models.logit_scaling import LogitScaling
from taid_vlm.models.processor import Processor
from taid_vlm.models.specs import ImagesSpec, StudentSpec
from taid_vlm.models.student import Student
from taid_vlm.models.vision_encoder import EncoderContract

# Markers that some runtime looks up as tokens.
MARKERS = (*INTERNVL, SMOLVLM_AROUND, SMOLVLM_WHOLE)


@dataclass(frozen=True)
class Facts:
    """A student without its weights; the vision fields are None in a plain language model.

    Attributes:
        text: model_type of the language model's config.
        tied: whether head and token embeddings are one tensor.
        scaling: what happens to logits after the head. head_bias: whether the head has one.
        image_token: the placeholder.
        contract: of the encoder.
        towers: transformers' towers that the encoder becomes exactly, with the feature that is read.
        projector: its recipe name. native_classes: the classes whose projector has its arithmetic.
        images: tiles and markers. tokens: which markers of pictures the tokenizer has as tokens.
    """

    text: str
    tied: bool
    scaling: LogitScaling
    head_bias: bool
    image_token: str | None = None
    contract: EncoderContract | None = None
    towers: tuple[str, ...] = ()
    projector: str | None = None
    native_classes: tuple[str, ...] = ()
    images: ImagesSpec = field(default_factory=ImagesSpec)
    tokens: tuple[str, ...] = ()

    @property
    def sees(self) -> bool:
        """Whether it takes pictures."""
        return self.contract is not None

    @property
    def prefix_tokens(self) -> int:
        """Class and register tokens that the tower makes, kept or not."""
        return 0 if self.contract is None else self.contract.source_prefix_tokens

    @property
    def feature(self) -> str | int:
        """What is read of the encoder."""
        return "normed" if self.contract is None else self.contract.feature

    @property
    def square(self) -> bool:
        """Whether the grid has as many rows as columns."""
        return self.contract is not None and self.contract.grid[0] == self.contract.grid[1]


def facts_of(student: Student, processor: Processor, spec: StudentSpec) -> Facts:
    """The facts of ``student``, built with or without weights."""
    language_model: Any = student.language_model
    head = student.head
    shared = {
        "text": language_model.config.model_type,
        "tied": head.weight is language_model.get_input_embeddings().weight,
        "scaling": student.logit_scaling,
        "head_bias": getattr(head, "bias", None) is not None,
    }
    if student.vision_encoder is None or student.projector is None:
        return Facts(**shared)
    assert spec.vision_encoder is not None
    assert spec.projector is not None
    encoder = student.vision_encoder
    projector: Any = student.projector
    return Facts(
        **shared,
        image_token=spec.image_token,
        contract=encoder.contract,
        towers=tuple(tower for tower in conversions(encoder) if feature_survives(encoder, tower)),
        projector=spec.projector.name,
        native_classes=projector.native_classes,
        images=spec.images,
        tokens=tuple(marker for marker in MARKERS if marker in processor.tokenizer.get_vocab()),
    )


@dataclass(frozen=True)
class Parts:
    """What an export is made from."""

    student: Student
    processor: Processor
    spec: StudentSpec
    facts: Facts
