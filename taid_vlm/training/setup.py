"""Everything a run is made of, built from its recipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import Progress

from taid_vlm.common.errors import UserError
from taid_vlm.data import PairedBatch, Pairer, PreparedRecords, Record, read_records
from taid_vlm.data.screening import Screening, refuse_pictures
from taid_vlm.losses import LossSpec, TAIDClock
from taid_vlm.models.assemble import build_student
from taid_vlm.models.processor import Processor
from taid_vlm.models.student import Student
from taid_vlm.models.teacher import Teacher, teacher_from_language_model, teacher_from_saved
from taid_vlm.models.vocabulary import shared_vocabulary
from taid_vlm.recipe.schema import Recipe, TeacherSpec
from taid_vlm.training.features import FeatureStore
from taid_vlm.training.inputs import model_inputs
from taid_vlm.training.teacher_cache import TeacherCache, autocast

Say = Callable[[str], None]


@dataclass
class Setup:
    """Models, data and caches of a run; ``teacher_store`` is ``store`` where the teacher has the very same encoder."""

    student: Student
    processor: Processor
    teacher: Teacher | None
    train: PreparedRecords
    validation: PreparedRecords | None
    store: FeatureStore | None
    teacher_store: FeatureStore | None
    cache: TeacherCache | None
    vocabulary: int | None
    spec: LossSpec
    clock: TAIDClock
    precision: str

    def teacher_hidden(self, batch: PairedBatch, device: torch.device) -> torch.Tensor | None:
        """The teacher's hidden states for a batch, from the cache or computed; None without a teacher."""
        if self.teacher is None:
            return None
        if batch.teacher is None:  # every sample of the batch was dropped
            return torch.zeros(0, self.teacher.head_weight.shape[1], device=device)
        if self.cache is not None:
            return self.cache.take(batch.ids).to(device)
        inputs = model_inputs(batch, batch.teacher, self.teacher.processor, self.teacher_store).to(device)
        with autocast(device, self.precision):
            return self.teacher.hidden(inputs).float()


def prepare(recipe: Recipe, accelerator: Accelerator, store: FeatureStore | None, precision: str, say: Say) -> Setup:
    """Build all of it, checking the data on the way.

    Raises:
        UserError: anything in the recipe, the data or the models that cannot work.
    """
    spec = LossSpec.of(**recipe.loss.objective)
    clock = TAIDClock(recipe.training.steps, **recipe.loss.clock)
    if spec.name == "taid":
        for warning in clock.warnings():
            say(f"note: {warning}")
    student, processor = build_student(recipe.student, recipe.seed)
    teacher = _teacher(recipe.teacher) if recipe.teacher is not None and spec.needs_teacher else None
    vocabulary = None
    if teacher is not None:
        rows = (student.head.weight.shape[0], teacher.head_weight.shape[0])
        vocabulary = shared_vocabulary(processor.tokenizer, teacher.processor.tokenizer, *rows)
        teacher.model.to(accelerator.device)
    student.to(accelerator.device)
    train = _prepared(recipe, read_records(recipe.data.train, recipe.seed), processor, teacher, say)
    validation = None
    if recipe.data.validation:
        validation = _prepared(recipe, read_records(recipe.data.validation, recipe.seed), processor, teacher, say)
    store = _features(recipe, student, [train, validation], store, say)
    shared = None
    if store is not None and teacher is not None and teacher.processor.images is not None:
        images = teacher.processor.images.spec
        shared = store if store.fits(teacher.encoder_spec, teacher.model.vision_encoder, images) else None
    cache = _cache(recipe, teacher, [train, validation], shared, precision)
    teacher_looks = teacher is not None and teacher.encoder_spec is not None and shared is None and cache is None
    for part in (train, validation):
        if part is not None:
            part.decode_pictures = store is None or teacher_looks
    return Setup(
        student, processor, teacher, train, validation, store, shared, cache, vocabulary, spec, clock, precision
    )


def _teacher(spec: TeacherSpec) -> Teacher:
    if spec.checkpoint is not None:
        return teacher_from_saved(spec.checkpoint)
    assert spec.language_model is not None
    return teacher_from_language_model(spec.language_model, spec.chat_template)


def _prepared(
    recipe: Recipe, records: list[Record], processor: Processor, teacher: Teacher | None, say: Say
) -> PreparedRecords:
    """Check every sample's words once, before anything is trained on."""
    refuse_pictures(records, recipe.student.vision_encoder is not None)
    pairer = Pairer(processor, teacher.processor if teacher else None, recipe.data.max_length)
    skip = recipe.data.on_bad_sample == "skip"
    screening = Screening(pairer, skip)
    good = [record for record, _ in screening.usable(records)]
    for kind, dropped in (
        ("cannot be used", screening.bad),
        ("differ between teacher and student", screening.mismatches),
    ):
        if dropped:
            say(f"{len(dropped)} of {len(records)} samples {kind} and are skipped; the first: {dropped[0]}")
    if not good:
        raise UserError("no sample is left to train on; every one was skipped")
    return PreparedRecords(good, pairer, skip, decode_pictures=True)


def _features(
    recipe: Recipe, student: Student, parts: list[PreparedRecords | None], store: FeatureStore | None, say: Say
) -> FeatureStore | None:
    encoder_spec = recipe.student.vision_encoder
    if not recipe.data.cache_image_features or student.vision_encoder is None or encoder_spec is None:
        return None
    images = recipe.student.images
    if store is None or not store.fits(encoder_spec, student.vision_encoder, images):
        store = FeatureStore(encoder_spec, images)
    skip = recipe.data.on_bad_sample == "skip"
    for part in parts:
        if part is None:
            continue
        with _bar("pictures") as progress:
            store.add(student.vision_encoder, (p for r in part.records for p in r.images), skip, progress)
        broken = [path for r in part.records for path in r.images if path in store.bad]
        good = [r for r in part.records if not any(path in store.bad for path in r.images)]
        if broken:
            dropped = len(part.records) - len(good)
            say(f"{dropped} of {len(part.records)} samples are skipped; the first: {store.bad[broken[0]]}")
        if not good:
            raise UserError(f"no picture can be read; the first: {store.bad[broken[0]]}")
        part.records = good
    return store


def _cache(
    recipe: Recipe,
    teacher: Teacher | None,
    parts: list[PreparedRecords | None],
    store: FeatureStore | None,
    precision: str,
) -> TeacherCache | None:
    if teacher is None or recipe.teacher is None or not recipe.teacher.cache.enabled:
        return None
    cache = TeacherCache(teacher, recipe.teacher.cache.dtype, precision)
    records = [record for part in parts if part is not None for record in part.records]
    first = parts[0]
    assert first is not None
    looks = teacher.encoder_spec is not None and store is None
    joined = PreparedRecords(records, first.pairer, first.skip_bad, decode_pictures=looks)
    with _bar("teacher") as progress:
        cache.fill(joined, store, progress)
    if not looks:
        # Only the head is needed from here on.
        teacher.model.language_model.base_model.layers = torch.nn.ModuleList()  # type: ignore[union-attr]
    return cache


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(line, completed=done, total=total)
