"""GPUs that are rented: memory, and dense bf16 (T4: fp16) peak of the tensor cores, by the makers' data sheets."""

from dataclasses import dataclass

GIB = 2**30
MFU = 0.4  # share of the peak that a well-fed training step reaches
USABLE = 0.92  # of a card's memory: the driver keeps some, and the allocator cannot use every gap


@dataclass(frozen=True)
class Card:
    """One kind of GPU."""

    name: str
    gib: float
    bf16_tflops: float


@dataclass(frozen=True)
class CardVerdict:
    """Whether a run fits on a card; ``hours`` is an estimate of the whole run."""

    card: str
    gib: float
    fits: bool
    hours: float


CARDS = (
    Card("RTX 4070 12 GB", 12, 58),
    Card("T4 16 GB", 16, 65),
    Card("L4 24 GB", 24, 121),
    Card("RTX 4090 24 GB", 24, 165),
    Card("A100 40 GB", 40, 312),
    Card("A100 80 GB", 80, 312),
    Card("H100 80 GB", 80, 989),
    Card("H200 141 GB", 141, 989),
    Card("B200 180 GB", 180, 2250),
)


def verdicts(peak: int, hours: dict[str, float]) -> tuple[CardVerdict, ...]:
    """Each card beside a peak in bytes, the smallest first."""
    return tuple(
        CardVerdict(card.name, card.gib, peak <= USABLE * card.gib * GIB, hours.get(card.name, 0.0)) for card in CARDS
    )
