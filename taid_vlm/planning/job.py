"""A recipe's models and samples, run on fake tensors phase by phase; each trace is made once."""

from dataclasses import dataclass, field, replace
from typing import Any

from taid_vlm.losses import LossSpec
from taid_vlm.models.native.model import NativeModel
from taid_vlm.planning import memory as memory_
from taid_vlm.planning.fake import BatchShape, fake_inputs, fake_text
from taid_vlm.planning.flops import FlopsPlan
from taid_vlm.planning.loss_memory import LossBuffers, loss_buffers
from taid_vlm.planning.memory import MemoryPlan, Phase
from taid_vlm.planning.models import Models
from taid_vlm.planning.running import Running
from taid_vlm.planning.samples import Samples, largest_step, tiles_per_picture
from taid_vlm.planning.stored import LoadedFrom
from taid_vlm.planning.trace import Trace, trace_inference, trace_training
from taid_vlm.planning.vocabulary import VocabularyPlan
from taid_vlm.recipe.schema import Recipe


@dataclass
class Job:
    """What a plan is made from; ``state_bytes``: of the optimizer's state for each trained weight."""

    recipe: Recipe
    spec: LossSpec
    models: Models
    samples: Samples
    loaded: LoadedFrom
    gpus: int
    micro: int
    state_bytes: float = 8.0
    _traces: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sizes = memory_.sizes_of(self.models, self.state_bytes)
        self.student_shape, self.teacher_shape = largest_step(
            self.recipe, self.samples, self.models, self.gpus, self.micro
        )
        self.micro_batches = self.recipe.training.batch_size // (self.micro * self.gpus)
        self.cached = memory_.cached(self.recipe, self.models)

    @property
    def vocabulary(self) -> VocabularyPlan | None:
        """Sizes of both heads, with a teacher."""
        if self.models.teacher is None or self.models.vocabulary is None:
            return None
        return VocabularyPlan(
            self.models.vocabulary,
            memory_.loss_sizes(self.models.student)[0],
            memory_.loss_sizes(self.models.teacher.model)[0],
        )

    def on_cpu(self, bf16: bool, process: int, running: Running) -> MemoryPlan:
        """Every phase on this machine's processor."""
        recipe, sizes = self.recipe, self.sizes
        held = memory_.held(recipe, self.models, self.samples, sizes, self.loaded, process, False)
        phases: list[Phase] = [memory_.loading_phase(held, sizes, self.loaded)]
        if bf16 and recipe.teacher is not None and recipe.teacher.placement == "replicated":
            sizes = sizes.after_cast(self.loaded.teacher_mapped)
            if not self.cached:
                held = replace(held, teacher=sizes.teacher)
        _, encoder = self.features()
        if encoder is not None and recipe.data.cache_image_features:
            decoded = min(memory_.FEATURE_BATCH, self.samples.pictures) * self.samples.picture_bytes
            phases.append(memory_.features_phase(held, encoder, sizes, decoded))
        teacher = self.teacher(bf16, self.cached)
        if teacher is not None:
            phases.append(memory_.teacher_phase(held, teacher, sizes, in_step=not self.cached))
        decoded = 0 if recipe.data.cache_image_features else self._pictures() * self.samples.picture_bytes
        step = self.step(bf16, False, running)
        phases.append(memory_.training_phase(held, step, sizes, self.gpus, decoded))
        phases.append(memory_.update_phase(held, sizes, self.gpus, False))
        return MemoryPlan("cpu", tuple(memory_.with_gaps(phase) for phase in phases))

    def step(self, bf16: bool, on_gpu: bool, running: Running) -> Trace:
        """Forward, loss and backward of the largest micro-batch."""
        key = ("step", bf16, on_gpu, running)
        if key not in self._traces:
            self._traces[key] = trace_training(
                self.models.student,
                self.student_shape,
                self.loss(bf16, on_gpu),
                bf16=bf16,
                cached_features=self.recipe.data.cache_image_features,
                # Gradients that leave are not there when the next micro-batch begins.
                micro_batches=1 if running.leaving else self.micro_batches,
                running=running,
            )
        trace: Trace = self._traces[key]
        return trace

    def loss(self, bf16: bool, on_gpu: bool) -> LossBuffers:
        """Sizes of the loss."""
        models = self.models
        student = memory_.loss_sizes(models.student)
        teacher = None if models.teacher is None else memory_.loss_sizes(models.teacher.model)
        return loss_buffers(
            self.student_shape.rows,
            student,
            teacher,
            models.vocabulary or student[0],
            self.spec,
            chunk_mb=self.recipe.loss.chunk_mb,
            bf16=bf16,
            on_gpu=on_gpu,
        )

    def features(self) -> tuple[float, Trace | None]:
        """How many batches the pass over the pictures has, and one of them; of a step's pictures where they are not kept."""
        if "features" not in self._traces:
            self._traces["features"] = self._features()
        found: tuple[float, Trace | None] = self._traces["features"]
        return found

    def _features(self) -> tuple[float, Trace | None]:
        encoder = self.models.student.vision_encoder
        if encoder is None or not self.student_shape.tiles:
            return 0.0, None
        tiles = max(1, round(self.samples.pictures * tiles_per_picture(self.samples, self.models.processor)))
        some = min(memory_.FEATURE_BATCH, tiles) if self.recipe.data.cache_image_features else self.student_shape.tiles
        shape = BatchShape(1, 1, 1, some)
        trace = trace_inference(
            encoder,
            lambda mode: encoder(fake_inputs(shape, self.models.student, False, mode).pixel_values),
            shape,
            bf16=False,
        )
        return tiles / some, trace

    def teacher(self, bf16: bool, cached: bool) -> Trace | None:
        """Its forward of the largest micro-batch, or of a batch of the pass that fills its cache."""
        key = ("teacher", bf16, cached)
        if key not in self._traces:
            self._traces[key] = self._teacher(bf16, cached)
        trace: Trace | None = self._traces[key]
        return trace

    def _teacher(self, bf16: bool, cached: bool) -> Trace | None:
        teacher, shape = self.models.teacher, self.teacher_shape
        if teacher is None or shape is None:
            return None
        if cached:
            shape = memory_.teacher_pass_shape(self.samples, self.models)
            assert shape is not None
        model, batch, shares = teacher.model, shape, self.models.shares_features
        if isinstance(model, NativeModel):
            stock = model
            return trace_inference(stock, lambda mode: stock.hidden(fake_text(batch, mode)), batch, bf16=bf16)
        ours = model
        return trace_inference(ours, lambda mode: ours.hidden(fake_inputs(batch, ours, shares, mode)), batch, bf16=bf16)

    def flops(self, step: Trace, loss: LossBuffers, teacher: Trace | None, cached: bool) -> FlopsPlan:
        """Arithmetic of an optimizer step over all processes."""
        many = self.micro_batches * self.gpus
        tokens = self.student_shape.sequences * self.student_shape.length
        mean = sum(self.samples.lengths()) / len(self.samples.pairs) * self.student_shape.sequences
        before = encoder_flops = 0.0
        batches, encoder = self.features()
        if encoder is not None:
            if self.recipe.data.cache_image_features:
                before += encoder.flops * batches
            else:  # its forward; what its training adds counts with the student
                encoder_flops = encoder.flops
        if teacher is not None and cached:
            batch = memory_.teacher_pass_shape(self.samples, self.models)
            assert batch is not None
            before += teacher.flops * self.samples.everything / batch.sequences
        learns = self.models.student.head.weight.requires_grad
        return FlopsPlan(
            student=round((step.flops - encoder_flops) * many),
            encoder=round(encoder_flops * many),
            heads=loss.flops(learns) * many,
            teacher=teacher.flops * many if teacher is not None and not cached else 0,
            before=round(before),
            scale=min(1.0, mean / tokens),
            steps=self.recipe.training.steps,
        )

    def _pictures(self) -> int:
        """Pictures of the largest micro-batch."""
        return round(self.student_shape.tiles / tiles_per_picture(self.samples, self.models.processor))
