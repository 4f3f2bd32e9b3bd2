"""What the runner asks of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image


@dataclass(frozen=True)
class Request:
    """One question as the model reads it; ``images`` (RGB) come before the text."""

    prompt: str
    images: list[Image.Image] = field(default_factory=list)


class Model(Protocol):
    """Anything that answers questions. The adapter applies the model's own chat template."""

    name: str

    def describe(self) -> dict[str, str | int]:
        """What identifies the model in a result. Equal descriptions must mean equal answers: a killed run is resumed
        only by a model of the same description."""
        ...

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str]:
        """Greedy answers without the prompt, one per request, in order.

        An answer may not depend on what else is in the batch. Running out of memory is raised as torch does it; the
        caller comes back with a smaller batch.
        """
        ...
