"""What a recipe asks for that decides memory and traffic at scale."""

from dataclasses import dataclass
from typing import Any

from taid_vlm.planning.placements import USUAL_QUANTIZATION
from taid_vlm.recipe.schema import Recipe


@dataclass(frozen=True)
class Asked:
    """Options of a recipe.

    Attributes:
        strategy: of the student; None leaves it to the launcher.
        placement: of the teacher. quantization: of a quantized one.
        checkpointing: layers are run again in the backward. offload: activations wait in the processor's memory.
        ema: an average of the trained weights is kept.
    """

    strategy: str | None = None
    placement: str = "replicated"
    quantization: str = USUAL_QUANTIZATION
    checkpointing: bool = False
    offload: bool = False
    ema: bool = False
    optimizer: str = "adamw"

    @property
    def state_bytes(self) -> float:
        """Bytes of the optimizer's state for each trained weight: two averages in fp32, or in 8 bits with a scale for 256."""
        return {"adamw": 8.0, "adamw_8bit": 2 * (1 + 4 / 256), "adafactor": 0.0}.get(self.optimizer, 8.0)


def asked_of(recipe: Recipe) -> Asked:
    """The options of a recipe, those that its schema does not have by their defaults."""
    training, teacher = recipe.training, recipe.teacher
    strategy = _option(training, "distribution", None)
    return Asked(
        None if strategy in (None, "auto") else str(strategy),
        str(_option(teacher, "placement", "replicated")),
        _option(teacher, "quantization", None) or USUAL_QUANTIZATION,
        bool(_option(training, "gradient_checkpointing", False)),
        bool(_option(training, "activation_offload", False)),
        _option(training, "ema", None) is not None,
        str(_option(training, "optimizer", "adamw")),
    )


def _option(part: Any, name: str, default: Any) -> Any:
    return default if part is None else part.model_dump().get(name, default)
