"""Arithmetic of an optimizer step by who does it, and what it means in hours."""

from dataclasses import dataclass

from taid_vlm.planning.cards import CARDS, MFU


@dataclass(frozen=True)
class FlopsPlan:
    """Floating-point operations of one optimizer step over all processes, were every micro-batch as large as the largest.

    Attributes:
        student: forward and backward of projector and language model. encoder: the student's vision encoder.
        heads: products of both heads inside the loss. teacher: its forward; 0 when cached.
        before: once, before training: features and the teacher's cache.
        scale: mean tokens of a batch as a share of the largest one's.
    """

    student: int
    encoder: int
    heads: int
    teacher: int
    before: int
    scale: float
    steps: int

    @property
    def step(self) -> int:
        """All of a step, of an average batch."""
        return round(self.scale * (self.student + self.encoder + self.heads + self.teacher))

    @property
    def teacher_share(self) -> float:
        """Share of the step that the teacher takes."""
        whole = self.student + self.encoder + self.heads + self.teacher
        return self.teacher / whole if whole else 0.0

    def hours(self, gpus: int) -> dict[str, float]:
        """Hours of the whole run by card, at the share :data:`MFU` of the card's bf16 peak."""
        total = self.step * self.steps + self.before
        return {card.name: total / (card.bf16_tflops * 1e12 * MFU * gpus) / 3600 for card in CARDS}
