"""Bytes that each GPU sends in an optimizer step, and the time of them.

Collectives go round a ring, as NCCL's do for large ones: to gather, or to sum and scatter, B bytes over N processes each sends
(N-1)/N B, to sum them everywhere twice that (the bus bandwidth of nccl-tests is defined by these factors). A ring over several
nodes carries as many bytes over each node's network as over each GPU's link, so the slower of the two decides.
"""

from dataclasses import dataclass

from taid_vlm.planning.cards import Card
from taid_vlm.planning.stored import FP32
from taid_vlm.planning.strategies import Strategy
from taid_vlm.planning.units import Units

# Of each node, in each direction: eight adapters of 400 Gbit/s, as in a DGX H100 (its data sheet).
NETWORK_GBIT = 3200.0
# Share of a link's rate that a large collective reaches: NCCL's own tests give 350 to 360 of the 450 GB/s of an H100.
REACHED = 0.8
# Share of the shorter of communication and arithmetic that is behind the longer one: the next layer is gathered while this one
# is computed, but the first and last wait, and kernels of both share the GPU. An assumption; measure it for your cluster.
HIDDEN = 0.5


@dataclass(frozen=True)
class Wire:
    """Bytes that one GPU sends in an optimizer step, by what for.

    Attributes:
        sent: to other GPUs. from_host: read from the processor's memory over PCIe.
        filling: likewise of the whole pass that fills the teacher's cache, to other GPUs and from the processor's memory.
    """

    sent: dict[str, int]
    from_host: int = 0
    filling: tuple[int, int] = (0, 0)

    @property
    def total(self) -> int:
        """To other GPUs, in all."""
        return sum(self.sent.values())


@dataclass(frozen=True)
class Links:
    """What the GPUs of a run are joined by."""

    card: Card
    nodes: int = 1
    network_gbit: float = NETWORK_GBIT

    def sending(self, sent: int) -> float:
        """Seconds of bytes that each GPU sends, if nothing else happened."""
        link = self.card.link if self.nodes == 1 else min(self.card.link, self.network_gbit / 8)
        return sent / (link * 1e9 * REACHED)

    def reading(self, from_host: int) -> float:
        """Seconds of bytes that each GPU reads from the processor's memory."""
        return from_host / (self.card.host * 1e9 * REACHED)


def ring(size: int, gpus: int) -> int:
    """Bytes that each of ``gpus`` processes sends to gather ``size`` bytes, or to sum and scatter them."""
    return round(size * (gpus - 1) / gpus)


def student_traffic(strategy: Strategy, units: Units, gpus: int, micro_batches: int, bf16: bool) -> dict[str, int]:
    """Of an optimizer step of ``micro_batches`` for each GPU."""
    gradients = FP32 * units.trained
    if not strategy.states_shared:
        return {"gradients": 2 * ring(gradients, gpus)} if gpus > 1 else {}
    sent = {"gradients": micro_batches * ring(gradients, gpus)}
    if strategy.weights_shared:
        runs = sum((layer.forward + layer.backward) * layer.parameters for layer in units.layers)
        if not strategy.engine:
            # FSDP2 gathers the layer before the first backward ahead of it, though a frozen one has no backward.
            frozen = [layer.parameters for layer in units.layers if layer.forward and not layer.backward]
            runs += frozen[-1] if frozen and units.root.backward else 0
        # FSDP2 gathers the rest of the model once, for it stays until its backward is done; DeepSpeed gathers it again.
        rest = units.root.parameters * (1 + strategy.engine * units.root.backward)
        sent["weights"] = micro_batches * ring(FP32 * rest + strategy.gathered(bf16) * runs, gpus)
    else:
        sent["weights"] = ring(gradients, gpus)  # those that were updated
    return sent


def teacher_traffic(units: Units, placement: str, gpus: int, batches: float) -> tuple[int, int]:
    """Bytes to other GPUs, and from the processor's memory, of a teacher that runs so many batches on each GPU."""
    if placement == "sharded":  # all but the head, which every process has
        return round(batches * ring(units.bytes - units.head, gpus)), 0
    if placement == "offload":
        return 0, round(batches * units.decoder)
    return 0, 0
