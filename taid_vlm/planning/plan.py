"""From a recipe to its plan."""

from dataclasses import dataclass
from pathlib import Path

from taid_vlm.export.plan import export_plan
from taid_vlm.losses import LossSpec, TAIDClock
from taid_vlm.models.native.model import NativeModel
from taid_vlm.planning import memory as memory_
from taid_vlm.planning.cards import verdicts
from taid_vlm.planning.fake import BatchShape, fake_inputs, fake_text
from taid_vlm.planning.flops import FlopsPlan
from taid_vlm.planning.loss_memory import LossBuffers, loss_buffers
from taid_vlm.planning.memory import MemoryPlan, Phase
from taid_vlm.planning.models import Models, build_models
from taid_vlm.planning.parts import lengths_of, parts_of, pictures_of
from taid_vlm.planning.samples import SAMPLE, Samples, largest_step, micro_batch, sample_records, tiles_per_picture
from taid_vlm.planning.schema import LengthPlan, Plan, VocabularyPlan
from taid_vlm.planning.stored import LoadedFrom, loaded_from
from taid_vlm.planning.trace import Trace, trace_inference, trace_training
from taid_vlm.recipe.schema import Recipe


def make_plan(
    recipe: Recipe, *, gpus: int = 1, cpu_precision: str = "fp32", samples: int = SAMPLE, process: int | None = None
) -> Plan:
    """Everything about a run that can be told without its weights.

    Args:
        gpus: processes of the run, each with a GPU of its own.
        cpu_precision: fp32 or bf16, what ``training.precision: auto`` means on this machine's processor.
        samples: records that are rendered at most.
        process: resident bytes of a process that has imported training and the tokenizers; those of this process when
            left out, which is right where it has done nothing else.

    Raises:
        UserError: what training would refuse before its first step.
    """
    spec = LossSpec.of(**recipe.loss.objective)
    clock = TAIDClock(recipe.training.steps, **recipe.loss.clock)
    micro = micro_batch(recipe, gpus)
    models = build_models(recipe, spec)
    exports = export_plan(models.student, models.processor, recipe.student)
    found = sample_records(recipe, models, samples)
    base = resident() if process is None else process
    job = _Job(recipe, spec, models, found, loaded_from(recipe, models), gpus, micro)
    asked = recipe.training.precision
    precision = {"cpu": cpu_precision if asked == "auto" else asked, "gpu": "bf16" if asked == "auto" else asked}
    on_cpu, _ = job.run(precision["cpu"] == "bf16", base, on_gpu=False)
    on_gpu, flops = job.run(precision["gpu"] == "bf16", memory_.GPU_CONTEXT, on_gpu=True)
    images, encoder = models.processor.images, models.student.vision_encoder
    lengths = lengths_of(recipe, models, found)
    return Plan(
        description=recipe.description,
        gpus=gpus,
        micro_batch=micro,
        micro_batches=job.micro_batches,
        precision=precision,
        parts=parts_of(recipe, models),
        grid=encoder.contract.grid if encoder is not None else None,
        tokens_per_tile=images.per_tile if images is not None else None,
        pictures=pictures_of(models),
        lengths=lengths,
        vocabulary=job.vocabulary,
        memory=(on_cpu, on_gpu),
        cards=verdicts(on_gpu.highest.total, flops.hours(gpus)),
        flops=flops,
        export=exports,
        warnings=(*(clock.warnings() if spec.name == "taid" else ()), *_warnings(recipe, lengths, models)),
    )


def resident() -> int:
    """Resident bytes of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    return pages * 4096


def _warnings(recipe: Recipe, lengths: LengthPlan, models: Models) -> list[str]:
    found = []
    if lengths.context is not None and lengths.longest > lengths.context:
        found.append(
            f"the longest sample has {lengths.longest} tokens, the language model was made for {lengths.context}: lower "
            f"data.max_length, or take fewer tiles"
        )
    if recipe.data.answers == "teacher":
        found.append(
            "the teacher writes the answers first: neither its memory nor its time for that is planned, and lengths are those of "
            "the data set's own answers"
        )
    if models.teacher is not None and isinstance(models.teacher.model, NativeModel):
        found.append(
            "of the teacher's vision tower the weights are counted, but neither its activations nor its arithmetic; those of its "
            "language model are, pictures' tokens included"
        )
    return found


@dataclass
class _Job:
    """A recipe's models and samples, run on fake tensors."""

    recipe: Recipe
    spec: LossSpec
    models: Models
    samples: Samples
    loaded: LoadedFrom
    gpus: int
    micro: int

    def __post_init__(self) -> None:
        self.sizes = memory_.sizes_of(self.models)
        self.student_shape, self.teacher_shape = largest_step(
            self.recipe, self.samples, self.models, self.gpus, self.micro
        )
        self.micro_batches = self.recipe.training.batch_size // (self.micro * self.gpus)

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

    def run(self, bf16: bool, process: int, *, on_gpu: bool) -> tuple[MemoryPlan, FlopsPlan]:
        """Trace every phase on one kind of device."""
        recipe, models, sizes = self.recipe, self.models, self.sizes
        held = memory_.held(recipe, models, self.samples, sizes, self.loaded, process, on_gpu)
        loss = self._loss(bf16, on_gpu)
        step = trace_training(
            models.student,
            self.student_shape,
            loss,
            bf16=bf16,
            cached_features=recipe.data.cache_image_features,
            micro_batches=self.micro_batches,
        )
        phases: list[Phase] = [] if on_gpu else [memory_.loading_phase(held, sizes, self.loaded)]
        before, encoder = self._features(bf16=False)
        if encoder is not None and recipe.data.cache_image_features:
            batch = min(memory_.FEATURE_BATCH, self.samples.pictures)
            decoded = 0 if on_gpu else batch * self.samples.picture_bytes
            phases.append(memory_.features_phase(held, encoder, sizes, decoded))
        teacher = self._teacher(bf16)
        cached = memory_.cached(recipe, models)
        if teacher is not None:
            phases.append(memory_.teacher_phase(held, teacher, sizes, in_step=not cached))
        decoded = 0 if on_gpu or recipe.data.cache_image_features else self._pictures() * self.samples.picture_bytes
        phases.append(memory_.training_phase(held, step, sizes, self.gpus, decoded))
        phases.append(memory_.update_phase(held, sizes, self.gpus, on_gpu))
        if not on_gpu:
            phases = [memory_.with_gaps(phase) for phase in phases]
        flops = self._flops(step, loss, teacher, encoder, before, cached)
        return MemoryPlan("gpu" if on_gpu else "cpu", tuple(phases)), flops

    def _pictures(self) -> int:
        """Pictures of the largest micro-batch."""
        return round(self.student_shape.tiles / tiles_per_picture(self.samples, self.models.processor))

    def _loss(self, bf16: bool, on_gpu: bool) -> LossBuffers:
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

    def _features(self, bf16: bool) -> tuple[float, Trace | None]:
        """How many batches the pass over the pictures has, and one of them."""
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
            bf16=bf16,
        )
        return tiles / some, trace

    def _teacher(self, bf16: bool) -> Trace | None:
        teacher, shape = self.models.teacher, self.teacher_shape
        if teacher is None or shape is None:
            return None
        if memory_.cached(self.recipe, self.models):
            shape = memory_.teacher_pass_shape(self.samples, self.models)
            assert shape is not None
        model, batch, shares = teacher.model, shape, self.models.shares_features
        if isinstance(model, NativeModel):
            stock = model
            return trace_inference(stock, lambda mode: stock.hidden(fake_text(batch, mode)), batch, bf16=bf16)
        ours = model
        return trace_inference(ours, lambda mode: ours.hidden(fake_inputs(batch, ours, shares, mode)), batch, bf16=bf16)

    def _flops(
        self, step: Trace, loss: LossBuffers, teacher: Trace | None, encoder: Trace | None, batches: float, cached: bool
    ) -> FlopsPlan:
        many = self.micro_batches * self.gpus
        tokens = self.student_shape.sequences * self.student_shape.length
        mean = sum(self.samples.lengths()) / len(self.samples.pairs) * self.student_shape.sequences
        before = encoder_flops = 0.0
        if encoder is not None:
            if self.recipe.data.cache_image_features:
                before += encoder.flops * batches
            else:  # its forward; what its training adds counts with the student
                encoder_flops = encoder.flops
        if teacher is not None and cached:
            passes = self.samples.everything / memory_.TEACHER_BATCH
            before += teacher.flops * passes
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
