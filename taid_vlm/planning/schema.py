"""What a plan says, as data; :meth:`Plan.to_json` gives it as JSON's own types."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from taid_vlm.export.plan import ExportPlan
from taid_vlm.planning.cards import CardVerdict
from taid_vlm.planning.flops import FlopsPlan
from taid_vlm.planning.memory import MemoryPlan
from taid_vlm.planning.scale import ScalePlan
from taid_vlm.planning.vocabulary import VocabularyPlan


@dataclass(frozen=True)
class PartPlan:
    """One part: ``mode`` is frozen, full or lora; ``lr`` None where nothing is trained."""

    name: str
    kind: str
    parameters: int
    trained: int
    mode: str
    lr: float | None


@dataclass(frozen=True)
class PicturePlan:
    """Pictures of one size: tiles and tokens (of the placeholder alone)."""

    size: tuple[int, int]
    tiles: int
    tokens: int


@dataclass(frozen=True)
class LengthPlan:
    """Tokens of the student's samples.

    Attributes:
        limit: data.max_length. context: of the language model; None where its config names none.
        answer_median, answer_longest: supervised tokens of a sample.
        refused: samples that are too long or broken. note: what was assumed.
    """

    samples: int
    median: int
    longest: int
    limit: int
    context: int | None
    answer_median: int
    answer_longest: int
    refused: int
    note: str
    estimated: bool


@dataclass(frozen=True)
class Plan:
    """All that is told before a run."""

    description: str
    gpus: int
    micro_batch: int
    micro_batches: int
    precision: dict[str, str]
    parts: tuple[PartPlan, ...]
    grid: tuple[int, int] | None
    tokens_per_tile: int | None
    pictures: tuple[PicturePlan, ...]
    lengths: LengthPlan
    vocabulary: VocabularyPlan | None
    memory: tuple[MemoryPlan, ...]
    cards: tuple[CardVerdict, ...]
    flops: FlopsPlan
    scale: ScalePlan
    export: ExportPlan
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries and lists; bytes, tokens and operations are whole numbers, hours are fractions."""
        content: dict[str, Any] = _plain(dataclasses.asdict(self))
        for memory, own in zip(self.memory, content["memory"], strict=True):
            own["highest"] = memory.highest.name
            own["peak"] = memory.highest.total
        content["flops"] |= {"step": self.flops.step, "teacher_share": self.flops.teacher_share}
        content["first_card"] = next((card.card for card in self.cards if card.fits), None)
        return content


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
