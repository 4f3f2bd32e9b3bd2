"""What a stock class is to an export: what keeps a student out of it, and how it takes one in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from taid_vlm.export.facts import Facts, Parts


@dataclass(frozen=True)
class Obstacle:
    """One thing that keeps a student out of a class, and the change of the recipe that removes it."""

    reason: str
    change: str


@dataclass(frozen=True)
class Native:
    """A student in the form of a stock class.

    Attributes:
        config: of the class. state: its state dict, names as the class has them.
        processor: the stock processor, with tokenizer and chat template.
        notes: what a user of the checkpoint must know, one line each.
        architecture: the class itself, where transformers has it not.
    """

    config: Any
    state: dict[str, Tensor]
    processor: Any
    notes: tuple[str, ...] = ()
    architecture: Any = None


def as_they_are(pixel_values: Tensor, facts: Facts) -> dict[str, Tensor]:
    """``[tiles, 3, size, size]``, as most classes take them."""
    return {"pixel_values": pixel_values}


@dataclass(frozen=True)
class Target:
    """One stock class.

    Attributes:
        name: what ``--to`` calls it. architecture: the class in transformers.
        obstacles: all that keeps a student out; none means that it fits.
        native: the student in that form; asked only where there is no obstacle.
        pixel_inputs: from our pixel values to the arguments of the class.
    """

    name: str
    architecture: str
    obstacles: Callable[[Facts], list[Obstacle]]
    native: Callable[[Parts], Native]
    pixel_inputs: Callable[[Tensor, Facts], dict[str, Tensor]] = field(default=as_they_are)
