"""The teacher on each GPU, by where its weights are."""

from dataclasses import dataclass

from taid_vlm.planning.units import Units

EXACT = ("replicated", "sharded", "offload")
PLACEMENTS = (*EXACT, "quantized", "served")
# A cache is filled by each process at its own pace, which a teacher that is shared out cannot be asked at.
FILLING = ("replicated", "offload")
# Bits of a weight with its share of a scale: int8 has one for each row, int4 two of 16 bits for 128 weights, nf4 one of 32 for 64
# (arXiv 2305.14314).
BITS = {"int8": 8.0, "int4": 4.25, "nf4": 4.5}
USUAL_QUANTIZATION = "int8"


@dataclass(frozen=True)
class Teaching:
    """Where the teacher is, and whether it runs once, before training."""

    placement: str = "replicated"
    cached: bool = False

    @property
    def name(self) -> str:
        """For tables."""
        return f"cached, filled {self.placement}" if self.cached else self.placement


@dataclass(frozen=True)
class TeacherBytes:
    """Bytes of the teacher.

    Attributes:
        resident: on each GPU, always. working: on each GPU besides, while it runs.
        node: in the memory of each node's processor, of all its processes.
    """

    resident: int = 0
    working: int = 0
    node: int = 0


def teacher_bytes(
    units: Units, placement: str, gpus: int, per_node: int, quantization: str, largest_weight: int, buffers: int
) -> TeacherBytes:
    """What a teacher that runs takes.

    Args:
        per_node: processes of a node.
        largest_weight: bytes of its largest matrix in bf16; a quantized one is made whole while it is used.
        buffers: bytes of what is no weight, and is on each GPU.
    """
    layer, whole = units.largest.bytes, units.bytes
    if placement == "served":
        return TeacherBytes()
    if placement == "sharded" and gpus > 1:
        # The head stays whole, for the loss. A layer is gathered beside the next one, or beside the embeddings before it.
        rest = units.root.bytes - units.head - units.embeddings
        working = rest + layer + max(layer, units.embeddings)
        return TeacherBytes(-(-(whole - units.head) // gpus) + units.head + buffers, working)
    if placement == "offload":
        return TeacherBytes(whole - units.decoder + buffers, layer, units.decoder * per_node)
    if placement == "quantized":
        share = BITS[quantization] / (8 * whole / units.parameters)
        return TeacherBytes(round(whole - (1 - share) * units.decoder) + buffers, largest_weight)
    return TeacherBytes(whole + buffers)
