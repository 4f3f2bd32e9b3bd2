"""Ways to run a recipe on many GPUs: strategy, place of the teacher, checkpointing; each with memory, traffic and arithmetic."""

from dataclasses import dataclass, replace

import torch

from taid_vlm.planning import memory as memory_
from taid_vlm.planning.asked import Asked
from taid_vlm.planning.flops import FlopsPlan
from taid_vlm.planning.job import Job
from taid_vlm.planning.memory import Phase
from taid_vlm.planning.placements import FILLING, PLACEMENTS, TeacherBytes, Teaching, teacher_bytes
from taid_vlm.planning.running import Running
from taid_vlm.planning.spread import Spread
from taid_vlm.planning.strategies import SEVERAL, STRATEGIES
from taid_vlm.planning.trace import Trace
from taid_vlm.planning.units import units_of
from taid_vlm.planning.wire import Wire, student_traffic, teacher_traffic


@dataclass(frozen=True)
class Option:
    """One way to run the recipe.

    Attributes:
        teaching: None without a teacher. phases: memory of each GPU.
        node_bytes: of teacher and activations in the memory of each node's processor.
    """

    strategy: str
    teaching: Teaching | None
    checkpointing: bool
    phases: tuple[Phase, ...]
    wire: Wire
    flops: FlopsPlan
    node_bytes: int

    @property
    def highest(self) -> Phase:
        """The phase that decides."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def peak(self) -> int:
        """Bytes of the highest phase."""
        return self.highest.total


class Options:
    """All ways to run a job in one precision on ``nodes`` nodes; what is asked for of the rest comes from the recipe."""

    def __init__(self, job: Job, asked: Asked, bf16: bool, nodes: int) -> None:
        self.job, self.asked, self.bf16, self.nodes = job, asked, bf16, nodes
        models, features = job.models, job.recipe.data.cache_image_features
        self.units = units_of(models.student, cached_features=features)
        self.teacher = units_of(models.teacher.model) if models.teacher is not None else None
        self.buffers = sum(b.nbytes for b in models.student.buffers())

    def all(self) -> list[Option]:
        """Every strategy with every place of the teacher, with and without checkpointing."""
        strategies = SEVERAL if self.job.gpus > 1 else ("single",)
        return [
            self.option(strategy, teaching, checkpointing)
            for strategy in strategies
            for teaching in self._teachings()
            for checkpointing in (False, True)
        ]

    def _teachings(self) -> list[Teaching | None]:
        if self.teacher is None:
            return [None]
        alone = self.job.gpus == 1  # nobody to share with
        placements = [name for name in PLACEMENTS if not (alone and name == "sharded")]
        kept = [Teaching(name, cached=True) for name in FILLING]
        return [*(Teaching(name) for name in placements), *kept]

    def option(self, strategy: str, teaching: Teaching | None, checkpointing: bool) -> Option:
        """One of them."""
        job, way = self.job, STRATEGIES.get(strategy)
        cached = teaching is not None and teaching.cached
        runs = self._teacher_bytes(teaching)
        learning = TeacherBytes(job.sizes.teacher_head) if cached and self._head_only() else runs
        names = frozenset(name for name, _ in job.models.student.named_parameters())
        leaving = names if way.engine else self.units.names if way.states_shared else frozenset()
        in_half = self.bf16 and way.weights_shared and not way.engine
        half: frozenset[str] = self.units.names if in_half else frozenset()
        running = Running(checkpointing, self.asked.offload, half, leaving)
        step = job.step(self.bf16, True, running)
        served = teaching is not None and teaching.placement == "served"
        trace = None if teaching is None or served else job.teacher(self.bf16, cached)
        if way.states_shared:
            phases = self._shared(strategy, step, trace, cached, runs, learning)
        else:
            phases = self._whole(step, trace, cached, runs, learning)
        node = runs.node + step.away * job.gpus // self.nodes
        flops = job.flops(step, job.loss(self.bf16, True), trace, cached)
        return Option(strategy, teaching, checkpointing, phases, self._wire(strategy, teaching, step), flops, node)

    def _wire(self, strategy: str, teaching: Teaching | None, step: Trace) -> Wire:
        job, back = self.job, step.away * self.job.micro_batches
        sent = student_traffic(STRATEGIES.get(strategy), self.units, job.gpus, job.micro_batches, self.bf16)
        if teaching is None or self.teacher is None:
            return Wire(sent, back)
        # Every process fills its part of the cache.
        batches = job.samples.everything / memory_.TEACHER_BATCH / job.gpus if teaching.cached else job.micro_batches
        teacher, from_host = teacher_traffic(self.teacher, teaching.placement, job.gpus, batches)
        if teaching.cached:
            return Wire(sent, back, (teacher, from_host))
        return Wire(sent | ({"teacher": teacher} if teacher else {}), back + from_host)

    def _teacher_bytes(self, teaching: Teaching | None) -> TeacherBytes:
        models = self.job.models
        if teaching is None or self.teacher is None or models.teacher is None:
            return TeacherBytes()
        model = models.teacher.model
        buffers = sum(b.nbytes for b in model.buffers())
        weight = max((p.numel() for p in model.parameters()), default=0) * torch.bfloat16.itemsize
        per_node = self.job.gpus // self.nodes
        return teacher_bytes(
            self.teacher, teaching.placement, self.job.gpus, per_node, self.asked.quantization, weight, buffers
        )

    def _head_only(self) -> bool:
        return memory_.keeps_head_only(self.job.models)

    def _whole(
        self, step: Trace, trace: Trace | None, cached: bool, runs: TeacherBytes, learning: TeacherBytes
    ) -> tuple[Phase, ...]:
        """Every process holds the student, its gradients and their state whole."""
        job = self.job
        held = memory_.Held(memory_.GPU_CONTEXT, learning.resident, 0, 0)
        phases = list(self._features(held, runs))
        if trace is not None:
            phases.append(self._teaching(held, trace, runs, in_step=not cached))
        training = memory_.training_phase(held, step, job.sizes, job.gpus, 0)
        phases += [training, memory_.update_phase(held, job.sizes, job.gpus, True)]
        if self.asked.ema:
            phases[-2:] = [Phase(p.name, p.parts | {"averaged weights": job.sizes.trained}) for p in phases[-2:]]
        return tuple(phases)

    def _shared(
        self,
        strategy: str,
        step: Trace,
        trace: Trace | None,
        cached: bool,
        runs: TeacherBytes,
        learning: TeacherBytes,
    ) -> tuple[Phase, ...]:
        job = self.job
        spread = Spread(
            STRATEGIES.get(strategy),
            self.units,
            job.sizes,
            job.gpus,
            self.bf16,
            memory_.GPU_CONTEXT,
            self.buffers,
            self.asked.ema,
        )
        held = memory_.Held(memory_.GPU_CONTEXT, learning.resident, 0, 0)
        before = list(self._features(held, runs))
        teaching: tuple[Phase, ...] = ()
        if trace is not None and cached:
            before.append(self._teaching(held, trace, runs, in_step=False))
        elif trace is not None:
            whole = self._teaching(held, trace, runs, in_step=True)
            teaching = (Phase(whole.name, whole.parts | spread.held()),)
        return (*before, *spread.phases(step, teaching, learning))

    def _features(self, held: memory_.Held, runs: TeacherBytes) -> tuple[Phase, ...]:
        job = self.job
        _, encoder = job.features()
        if encoder is None or not job.recipe.data.cache_image_features:
            return ()
        return (memory_.features_phase(held, encoder, replace(job.sizes, teacher=runs.resident), 0),)

    def _teaching(self, held: memory_.Held, trace: Trace, runs: TeacherBytes, in_step: bool) -> Phase:
        phase = memory_.teacher_phase(held, trace, replace(self.job.sizes, teacher=runs.resident), in_step)
        if self.asked.ema and in_step:
            phase.parts["averaged weights"] = self.job.sizes.trained
        if runs.working:
            phase.parts["gathered teacher"] = runs.working
        return phase
