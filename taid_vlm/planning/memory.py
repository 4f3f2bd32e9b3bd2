"""The memory of a run by phase and by part, from traces and from what is known to be held.

``cpu`` is the resident memory of the process: interpreter, libraries and tokenizers are in it. ``gpu`` is the device's
memory of one process.
"""

from dataclasses import dataclass, replace

import torch

from taid_vlm.models.casts import layers_to_cast
from taid_vlm.models.teacher import TeacherModel
from taid_vlm.models.trained_parts import parameters_by_part
from taid_vlm.planning.fake import BatchShape
from taid_vlm.planning.models import Models
from taid_vlm.planning.samples import Samples, largest, tiles_per_picture
from taid_vlm.planning.stored import FP32, LoadedFrom
from taid_vlm.planning.trace import ACTIVATIONS, BATCH, GRADIENTS, LOSS, WEIGHTS, Trace
from taid_vlm.recipe.schema import Recipe

# CUDA's own context and the workspaces of cuBLAS: about half a GiB on every card since Volta.
GPU_CONTEXT = 600 * 2**20
# Of what a phase allocates and frees again on a CPU. glibc takes blocks of up to 32 MiB from a heap that it does not give
# back, and blocks of many sizes leave gaps in it: with its defaults a run grew by 20 to 40 % more than with
# MALLOC_MMAP_THRESHOLD_=131072, where every large block goes back to the system. The lower end is planned.
GAPS = 0.2
# As in training/features.py and training/cache/fill.py.
FEATURE_BATCH = TEACHER_BATCH = 32


@dataclass(frozen=True)
class Phase:
    """One stretch of a run. ``parts``: bytes at its highest moment, by what they are for."""

    name: str
    parts: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class MemoryPlan:
    """Phases of a run on one device, in the order of the run; ``device`` is cpu or gpu."""

    device: str
    phases: tuple[Phase, ...]

    @property
    def highest(self) -> Phase:
        """The phase that decides."""
        return max(self.phases, key=lambda phase: phase.total)


@dataclass(frozen=True)
class Held:
    """What stays in memory through the training phase beside the student: bytes by part."""

    process: int
    teacher: int
    features: int
    cached_rows: int

    def parts(self) -> dict[str, int]:
        """By name, without what is not there."""
        named = {
            "process": self.process,
            "teacher weights": self.teacher,
            "feature store": self.features,
            "teacher cache": self.cached_rows,
        }
        return {name: size for name, size in named.items() if size}


@dataclass(frozen=True)
class Sizes:
    """Bytes of the student's and the teacher's tensors; ``state``: of the optimizer's; ``teacher_layers``: of those of the
    teacher that are in fp32, and kept in the dtype of autocast where it is copied to each process."""

    student: int
    trained: int
    state: int
    largest_trained: int
    largest_group: int
    teacher: int
    teacher_head: int
    largest_teacher: int
    teacher_layers: int
    encoder: int

    def after_cast(self, mapped: bool) -> "Sizes":
        """With the teacher's layers in two bytes; the file that the weights were a view of stays in the process."""
        change = self.teacher_layers // 2 if mapped else -(self.teacher_layers // 2)
        return replace(self, teacher=self.teacher + change)


def sizes_of(models: Models, state_bytes: float = 8.0) -> Sizes:
    """Counted on models without weights; all parameters are fp32 but those of a teacher that is asked for in bf16.

    Args:
        state_bytes: of the optimizer's state for each trained weight; AdamW has two averages in fp32.
    """
    trained = [p.numel() * FP32 for p in models.student.parameters() if p.requires_grad]
    teacher = list(models.teacher.model.parameters()) if models.teacher is not None else []
    encoder = models.student.vision_encoder
    return Sizes(
        student=_bytes(models.student),
        trained=sum(trained),
        state=round(state_bytes * sum(trained) / FP32),
        largest_trained=max(trained),
        largest_group=FP32 * max(learns for learns, _ in parameters_by_part(models.student).values()),
        teacher=_bytes(models.teacher.model) if models.teacher is not None else 0,
        teacher_head=models.teacher.head_weight.nbytes if models.teacher is not None else 0,
        largest_teacher=max((p.nbytes for p in teacher), default=0),
        teacher_layers=0
        if models.teacher is None
        else sum(p.nbytes for layer in layers_to_cast(models.teacher.model) for p in layer.parameters()),
        encoder=_bytes(encoder) if encoder is not None else 0,
    )


def _bytes(module: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def held(
    recipe: Recipe, models: Models, samples: Samples, sizes: Sizes, loaded: LoadedFrom, process: int, on_gpu: bool
) -> Held:
    """What training holds; stores and caches are in the process's memory, never on the GPU."""
    features = rows = 0
    encoder = models.student.vision_encoder
    if not on_gpu and recipe.data.cache_image_features and encoder is not None:
        tiles = samples.pictures * tiles_per_picture(samples, models.processor)
        features = round(tiles * encoder.contract.tokens * encoder.contract.feature_dim * FP32)
    teacher = sizes.teacher
    if cached(recipe, models):
        assert recipe.teacher is not None
        assert models.teacher is not None
        if not on_gpu:
            mean = sum(samples.answers()) / len(samples.pairs)
            dtype: torch.dtype = getattr(torch, recipe.teacher.cache.dtype)
            rows = round(samples.everything * mean * models.teacher.head_weight.shape[1] * dtype.itemsize)
        # All but its head is dropped. Weights that are a view of a mapped file stay in the process with the file.
        if keeps_head_only(models) and not (loaded.teacher_mapped and not on_gpu):
            teacher = sizes.teacher_head
    return Held(process, teacher, features, rows)


def cached(recipe: Recipe, models: Models) -> bool:
    """Whether the teacher runs once, before training; one that fills its cache on the way is there for all of an epoch."""
    if models.teacher is None or recipe.teacher is None:
        return False
    return recipe.teacher.cache.enabled and recipe.teacher.cache.fill == "before"


def keeps_head_only(models: Models) -> bool:
    """Whether there is a teacher that drops all but its head once its cache is filled."""
    return models.teacher is not None


def teacher_pass_shape(samples: Samples, models: Models) -> BatchShape | None:
    """The largest batch of the pass that fills the teacher's cache: the longest samples come first."""
    pairs = sorted(samples.pairs, key=lambda pair: len((pair.teacher or pair.student).ids), reverse=True)
    batches = [pairs[i : i + TEACHER_BATCH] for i in range(0, len(pairs), TEACHER_BATCH)]
    if samples.estimated:
        batches = [pairs * TEACHER_BATCH]
    return largest(batches, models)[1]


def with_gaps(phase: Phase) -> Phase:
    """The phase as the process's heap holds it on a CPU."""
    passing = ("activations", "teacher activations", "loss", "gradients", "pictures")
    gaps = round(GAPS * sum(phase.parts.get(name, 0) for name in passing))
    return Phase(phase.name, phase.parts | {"gaps in the heap": gaps}) if gaps else phase


def training_phase(held: Held, trace: Trace, sizes: Sizes, gpus: int, pictures: int) -> Phase:
    """The highest moment of forward, loss and backward, from the second optimizer step on; ``pictures``: bytes of those
    of a micro-batch, decoded."""
    parts = held.parts() | {
        "student weights": trace.of(WEIGHTS),
        "gradients": trace.of(GRADIENTS),
        "optimizer state": sizes.state,
        "activations": trace.of(ACTIVATIONS) + trace.of(BATCH),
        "loss": trace.of(LOSS),
    }
    if gpus > 1:
        parts["gradient buckets"] = sizes.trained
    if pictures:
        parts["pictures"] = pictures
    return Phase("forward and backward", parts)


def update_phase(held: Held, sizes: Sizes, gpus: int, on_gpu: bool) -> Phase:
    """The optimizer's step. On a GPU AdamW works on a whole group at once and takes a temporary of its size; on a CPU
    on one parameter after the other, with two temporaries of that size."""
    parts = held.parts() | {
        "student weights": sizes.student,
        "gradients": sizes.trained,
        "optimizer state": sizes.state,
        "temporaries": sizes.largest_group if on_gpu else 2 * sizes.largest_trained,
    }
    if gpus > 1:
        parts["gradient buckets"] = sizes.trained
    return Phase("optimizer step", parts)


def teacher_phase(held: Held, trace: Trace, sizes: Sizes, in_step: bool) -> Phase:
    """The teacher's forward: in every step beside the student's optimizer state, or once for its cache."""
    parts = held.parts() | {
        "student weights": sizes.student,
        "teacher weights": sizes.teacher,
        "teacher activations": trace.of(ACTIVATIONS) + trace.of(BATCH),
    }
    if in_step:
        parts |= {"gradients": sizes.trained, "optimizer state": sizes.state}
    return Phase("teacher's forward" if in_step else "filling the teacher's cache", parts)


def features_phase(held: Held, trace: Trace, sizes: Sizes, pictures: int) -> Phase:
    """The frozen encoder over all pictures, before training; ``pictures``: bytes of those of a batch, decoded."""
    parts = replace(held, cached_rows=0, teacher=sizes.teacher).parts() | {
        "student weights": sizes.student,
        "activations": trace.peak - trace.of(WEIGHTS),
    }
    if pictures:
        parts["pictures"] = pictures
    return Phase("encoding the pictures", parts)


def loading_phase(held: Held, sizes: Sizes, loaded: LoadedFrom) -> Phase:
    """Weights while they are read: a mapped file beside its copy, and the copy that a hash of the teacher takes."""
    parts = {
        "process": held.process,
        "student weights": sizes.student,
        "teacher weights": sizes.teacher,
        "files while they are read": max(loaded.student_extra, loaded.teacher_extra, sizes.largest_teacher),
    }
    return Phase("loading", {name: size for name, size in parts.items() if size})


def loss_sizes(model: TeacherModel) -> tuple[int, int]:
    """Rows and width of a model's head."""
    rows, width = model.head.weight.shape
    return int(rows), int(width)
