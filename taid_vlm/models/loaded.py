"""A student with its processor, ready to answer."""

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from taid_vlm.models.generate import generate_answers
from taid_vlm.models.processor import Processor
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import Student, count_parameters


@dataclass(frozen=True)
class LoadedStudent:
    """What :func:`load_student` returns.

    Attributes:
        sha256: hash of the weight file; of a student saved in its trained parts alone, it says nothing of the base.
    """

    student: Student
    processor: Processor
    spec: StudentSpec
    path: str
    sha256: str

    @property
    def parameters_total(self) -> int:
        """Parameters of all parts, tied ones counted once."""
        return count_parameters(self.student)

    def describe(self) -> dict[str, Any]:
        """What an evaluation result states of the model."""
        encoder = self.spec.vision_encoder
        return {
            "class": "taid-vlm student",
            "weights_sha256": self.sha256,
            "parameters": self.parameters_total,
            "language_model": self.spec.language_model.source,
            "vision_encoder": encoder.name if encoder else "none",
            "dtype": str(next(self.student.parameters()).dtype).removeprefix("torch."),
        }

    @torch.no_grad()
    def generate(
        self, conversations: list[list[dict[str, Any]]], images: list[list[Image.Image]], max_new_tokens: int
    ) -> list[str]:
        """Greedy answers, one for each conversation; see :func:`generate_answers`."""
        return generate_answers(self.student, self.processor, conversations, images, max_new_tokens)
