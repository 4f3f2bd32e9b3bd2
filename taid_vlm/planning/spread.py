"""The memory of one GPU where weights, gradients or optimizer state are shared out over the processes.

Phases as in :mod:`memory`, which has those of a student that every process holds whole.
"""

from dataclasses import dataclass

from taid_vlm.planning.memory import Phase, Sizes
from taid_vlm.planning.placements import TeacherBytes
from taid_vlm.planning.stored import FP32
from taid_vlm.planning.strategies import Strategy
from taid_vlm.planning.trace import ACTIVATIONS, BATCH, GRADIENTS, LOSS, Trace
from taid_vlm.planning.units import Units

# DeepSpeed's defaults, in numbers: gradients that are summed together, in a buffer that is made whole (reduce_bucket_size),
# and weights that may stay gathered (stage3_max_live_parameters).
BUCKET, LIVE = 500_000_000, 1_000_000_000


@dataclass(frozen=True)
class Spread:
    """A student over ``gpus`` processes.

    Attributes:
        process: bytes of the driver's context.
        buffers: bytes of the student that are no weights, and are never shared out.
        ema: an average of the trained weights is kept, shared out as they are.
    """

    strategy: Strategy
    units: Units
    sizes: Sizes
    gpus: int
    bf16: bool
    process: int
    buffers: int
    ema: bool = False

    def share(self, size: int) -> int:
        """An N-th, rounded up."""
        return -(-size // self.gpus)

    def held(self) -> dict[str, int]:
        """What is in memory through all of training."""
        weights = FP32 * self.units.parameters
        trained = self.units.trained
        parts = {
            "process": self.process,
            "student weights": (self.share(weights) if self.strategy.weights_shared else weights) + self.buffers,
            "gradients": self.share(FP32 * trained),
            "optimizer state": self.share(self.sizes.state),
        }
        if self.strategy.engine:
            parts["fp32 copy of a share"] = self.share(FP32 * trained)
        if self.ema:
            parts["averaged weights"] = self.share(FP32 * trained) if self.strategy.weights_shared else FP32 * trained
        return parts

    def phases(self, step: Trace, teaching: tuple[Phase, ...], teacher: TeacherBytes) -> tuple[Phase, ...]:
        """All phases from the moment at which the student is shared out.

        Args:
            step: of a student whose gradients leave where they are shared out.
            teaching: the teacher's forward in a step.
        """
        held = self.held() | {"teacher weights": teacher.resident} if teacher.resident else self.held()
        working = held | {
            "gathered layers": self._gathered(),
            "gradients on their way": step.of(GRADIENTS) + self._leaving(),
            "activations": step.of(ACTIVATIONS) + step.of(BATCH),
            "loss": step.of(LOSS),
        }
        phases = [self._sharing(teacher), *teaching, Phase("forward and backward", _there(working))]
        if self.strategy.weights_shared and not self.strategy.engine:
            root = self.units.root
            ending = {"gathered layers": FP32 * root.parameters, "gradients on their way": 2 * FP32 * root.trained}
            phases.append(Phase("end of the backward", _there(held | ending)))
        temporaries = self.share(FP32 * self.units.trained if self.strategy.engine else self.sizes.largest_group)
        phases.append(Phase("optimizer step", held | {"temporaries": temporaries}))
        return tuple(phases)

    def _gathered(self) -> int:
        """The rest of the model, and a layer beside the next one, which is on its way."""
        root, layer = self.units.root.parameters, self.units.largest.parameters
        if not self.strategy.weights_shared:
            return 0
        if self.strategy.engine:
            return FP32 * max(root + 2 * layer, min(LIVE, self.units.parameters))
        return FP32 * root + 2 * self.strategy.gathered(self.bf16) * layer

    def _leaving(self) -> int:
        """Gradients of a layer as they are made, and as they are summed."""
        layer = self.units.largest.trained
        if self.strategy.engine:
            return FP32 * (layer + BUCKET)
        return (self.strategy.gathered(self.bf16) + FP32) * layer

    def _sharing(self, teacher: TeacherBytes) -> Phase:
        """The student is put on the GPU whole, and then shared out."""
        own = self.held()
        parts = {
            "process": self.process,
            "student weights": self.sizes.student + own["student weights"],
            "teacher weights": teacher.resident,
        }
        return Phase("sharing the student out", _there(parts))


def _there(parts: dict[str, int]) -> dict[str, int]:
    return {name: size for name, size in parts.items() if size}
