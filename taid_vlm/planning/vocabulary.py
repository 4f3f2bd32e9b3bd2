"""The vocabularies of both models, as a plan tells of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VocabularyPlan:
    """Rows of both heads, and the leading ids that both models share."""

    shared: int
    student: int
    teacher: int
