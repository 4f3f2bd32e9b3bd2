"""GPUs that are rented: memory, dense bf16 (T4: fp16) peak of the tensor cores and links, by the makers' data sheets."""

from dataclasses import dataclass

from taid_vlm.common.errors import UserError, did_you_mean

GIB = 2**30
MFU = 0.4  # share of the peak that a well-fed training step reaches
USABLE = 0.92  # of a card's memory: the driver keeps some, and the allocator cannot use every gap


@dataclass(frozen=True)
class Card:
    """One kind of GPU.

    Attributes:
        link: GB/s in each direction to the other GPUs of a node: NVLink of a server's cards (half of what data sheets add up
            over both directions), PCIe of the others. host: likewise to the processor's memory, PCIe x16.
    """

    name: str
    gib: float
    bf16_tflops: float
    link: float
    host: float


@dataclass(frozen=True)
class CardVerdict:
    """Whether a run fits on a card; ``hours`` is an estimate of the whole run."""

    card: str
    gib: float
    fits: bool
    hours: float


CARDS = (
    Card("RTX 4070 12 GB", 12, 58, 32, 32),
    Card("T4 16 GB", 16, 65, 16, 16),
    Card("L4 24 GB", 24, 121, 32, 32),
    Card("RTX 4090 24 GB", 24, 165, 32, 32),
    Card("A100 40 GB", 40, 312, 300, 32),
    Card("A100 80 GB", 80, 312, 300, 32),
    Card("H100 80 GB", 80, 989, 450, 64),
    Card("H200 141 GB", 141, 989, 450, 64),
    Card("B200 180 GB", 180, 2250, 900, 64),
)


def card_named(name: str) -> Card:
    """The card of exactly this name.

    Raises:
        UserError: there is none; the message lists the close names.
    """
    for card in CARDS:
        if card.name == name:
            return card
    raise UserError(f"unknown card {name!r}: {did_you_mean(name, [card.name for card in CARDS])}")


def fits(peak: int, gib: float) -> bool:
    """Whether a peak in bytes fits into the usable part of a card's memory."""
    return peak <= USABLE * gib * GIB


def verdicts(peak: int, hours: dict[str, float]) -> tuple[CardVerdict, ...]:
    """Each card beside a peak in bytes, the smallest first."""
    return tuple(CardVerdict(card.name, card.gib, fits(peak, card.gib), hours.get(card.name, 0.0)) for card in CARDS)
