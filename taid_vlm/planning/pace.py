"""Seconds of a step and hours of a run on one kind of card, from arithmetic and traffic."""

from dataclasses import dataclass

from taid_vlm.planning.cards import MFU
from taid_vlm.planning.options import Option
from taid_vlm.planning.wire import HIDDEN, Links


@dataclass(frozen=True)
class Rates:
    """What is assumed.

    Attributes:
        utilisation: share of the card's bf16 peak that the arithmetic reaches.
        hidden: share of the shorter of arithmetic and communication that is behind the longer one.
    """

    utilisation: float = MFU
    hidden: float = HIDDEN


@dataclass(frozen=True)
class Pace:
    """Seconds of an average optimizer step, and of the run.

    Attributes:
        arithmetic, communication: each by itself. reading: from the processor's memory, for which the arithmetic waits.
        step: all together.
        before: hours before training, for features and the teacher's cache. hours: of the run, these included.
    """

    card: str
    arithmetic: float
    communication: float
    reading: float
    step: float
    samples_per_second: float
    before: float
    hours: float
    gpu_hours: float


def pace_of(option: Option, links: Links, gpus: int, batch_size: int, rates: Rates) -> Pace:
    """How fast a run goes."""
    peak = links.card.bf16_tflops * 1e12 * rates.utilisation * gpus
    arithmetic = option.flops.step / peak
    sending, reading = links.sending(option.wire.total), links.reading(option.wire.from_host)
    step = joined(arithmetic, sending, rates.hidden) + reading
    filling, read = option.wire.filling
    before = joined(option.flops.before / peak, links.sending(filling), rates.hidden) + links.reading(read)
    hours = (before + step * option.flops.steps) / 3600
    rate = batch_size / step if step else 0.0
    return Pace(links.card.name, arithmetic, sending, reading, step, rate, before / 3600, hours, hours * gpus)


def joined(arithmetic: float, communication: float, hidden: float) -> float:
    """Seconds of both, where ``hidden`` of the shorter one goes on behind the longer one."""
    return arithmetic + communication - hidden * min(arithmetic, communication)
