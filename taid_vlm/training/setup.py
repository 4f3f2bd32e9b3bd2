"""Everything a run is made of, built from its recipe."""

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator

from taid_vlm.common.errors import UserError
from taid_vlm.common.progress import bar, waiting
from taid_vlm.data import PairedBatch, Pairer, PreparedRecords, Record, read_records
from taid_vlm.data.packing import Packing
from taid_vlm.data.screening import Screening, refuse_pictures
from taid_vlm.losses import LossSpec, TAIDClock, TopK
from taid_vlm.models.assemble import build_student
from taid_vlm.models.casts import FrozenCast
from taid_vlm.models.documents import check_documents
from taid_vlm.models.language_model import use_attention
from taid_vlm.models.processor import Processor
from taid_vlm.models.student import Student
from taid_vlm.models.teacher import Teacher
from taid_vlm.models.vocabulary import shared_vocabulary
from taid_vlm.recipe.schema import Recipe
from taid_vlm.training.cache import TeacherCache
from taid_vlm.training.cache.measure import Loss
from taid_vlm.training.cache.open import Opening
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.features import FeatureStore
from taid_vlm.training.inputs import teacher_inputs
from taid_vlm.training.placement import place_teacher, share_teacher
from taid_vlm.training.precision import DTYPES, autocast
from taid_vlm.training.served import ServedTeacher, open_served, refuse_served_pictures
from taid_vlm.training.teachers import late_teacher, open_teacher
from taid_vlm.training.timing import Stopwatch
from taid_vlm.training.written_answers import WrittenAnswers

Say = Callable[[str], None]


@dataclass
class Setup:
    """Models, data and caches of a run; ``teacher_store`` is ``store`` where the teacher has the very same encoder.

    Attributes:
        packing: how many tokens a row of a training batch takes; None gives each sample a row.
        teacher_looks: whether the teacher needs the pictures of training batches.
        served: stands for the hidden states of a teacher that is on a server; ``teacher`` then has no weights.
        watch: told what each part of a step takes.
    """

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
    packing: Packing | None = None
    teacher_looks: bool = False
    served: ServedTeacher | None = None
    teacher_head: FrozenCast = field(default_factory=FrozenCast)
    watch: Stopwatch = field(default_factory=Stopwatch)

    def teacher_hidden(self, batch: PairedBatch, device: torch.device) -> torch.Tensor | TopK | None:
        """The teacher's hidden states for a batch, from the cache or computed; its likeliest tokens where the cache has those;
        None without a teacher."""
        if self.teacher is None:
            return None
        if self.cache is not None and (batch.teacher is None or not self.cache.online):
            return self.cache.take(batch.ids).to(device)
        if batch.teacher is None:  # every sample of the batch was dropped
            with autocast(device, self.precision):
                self.teacher.idle()
            return torch.zeros(0, self.teacher.head_weight.shape[1], device=device)
        with autocast(device, self.precision):
            if self.cache is not None:
                teacher = self.teacher
                return self.cache.through(batch, teacher, lambda: self._online(batch, teacher, device)).to(device)
            return self._online(batch, self.teacher, device).float()

    def _online(self, batch: PairedBatch, teacher: Teacher, device: torch.device) -> torch.Tensor:
        assert batch.teacher is not None
        return teacher.hidden(teacher_inputs(batch, batch.teacher, teacher, self.teacher_store).to(device))


def prepare(recipe: Recipe, accelerator: Accelerator, store: FeatureStore | None, precision: str, say: Say) -> Setup:
    """Build all of it, checking the data on the way.

    Raises:
        UserError: anything in the recipe, the data or the models that cannot work.
    """
    spec = LossSpec.of(**recipe.loss.objective)
    clock = TAIDClock(recipe.training.steps, **recipe.loss.clock)
    for warning in clock.warnings() if spec.name == "taid" else ():
        say(f"note: {warning}")
    with waiting("building the student"):
        student, processor = build_student(recipe.student, recipe.seed)
    teacher = _opened_teacher(recipe, spec)
    if recipe.training.attention is not None:
        use_attention(student.language_model, recipe.training.attention)
    vocabulary = None
    served = open_served(recipe, teacher, spec)
    records = read_records(recipe.data.train, recipe.seed)
    if teacher is not None:
        assert recipe.teacher is not None
        if spec.needs_teacher:
            vocabulary = _vocabulary(student, processor, teacher, precision)
        if served is None and not teacher.head_weight.is_meta:
            place_teacher(teacher, recipe.teacher, accelerator.device, say, DTYPES[precision])
        if recipe.data.answers == "teacher":
            records = _written(recipe, records, teacher, precision, accelerator, say)
        teacher = teacher if spec.needs_teacher else None
    student.to(accelerator.device)
    with autocast(accelerator.device, precision):
        packing = _packing(recipe, student, teacher, say)
    train = _prepared(recipe, records, processor, teacher, say)
    validation = None
    if recipe.data.validation:
        validation = _prepared(recipe, read_records(recipe.data.validation, recipe.seed), processor, teacher, say)
    store = _features(recipe, student, [train, validation], store, say)
    setup = Setup(
        student,
        processor,
        teacher,
        train,
        validation,
        store,
        _shared(store, teacher),
        None,
        vocabulary,
        spec,
        clock,
        precision,
        packing,
        served=served,
        watch=Stopwatch(accelerator.device),
    )
    _make_ready(setup, recipe, accelerator, say)  # after what looks at the teacher's weights or runs parts of it
    for part in (train, validation):
        if part is not None:
            part.decode_pictures = store is None or setup.teacher_looks
    return setup


def _make_ready(setup: Setup, recipe: Recipe, accelerator: Accelerator, say: Say) -> None:
    """Share the teacher out between the processes, and put its cache in its place where there is one."""
    teacher, spec, store = setup.teacher, recipe.teacher, setup.store
    if teacher is None or spec is None:
        return
    looks = teacher.sees and setup.teacher_store is None
    share_teacher(teacher, spec, accelerator.device, accelerator.num_processes, say, looks=looks)
    if spec.cache.enabled and setup.served is None:
        opening = Opening(
            spec,
            setup.precision,
            Distribution(accelerator),
            load=lambda: late_teacher(recipe, accelerator.device, say, DTYPES[setup.precision]),
            store_of=lambda teacher: _shared(store, teacher),
            loss=Loss(setup.student, setup.processor, store, setup.spec, setup.vocabulary or 0),
            bar=bar,
            say=say,
        )
        setup.cache, setup.teacher = opening.open(teacher, [setup.train, setup.validation])
        setup.teacher_store = _shared(store, setup.teacher) if setup.cache.online else None
    online = setup.served is None and (setup.cache is None or setup.cache.online)
    sees = setup.teacher is not None and setup.teacher.sees
    setup.teacher_looks = sees and setup.teacher_store is None and online


def _opened_teacher(recipe: Recipe, spec: LossSpec) -> Teacher | None:
    """None where neither the loss nor the data needs one."""
    writes = recipe.data.answers == "teacher"
    if recipe.teacher is None or not (spec.needs_teacher or writes):
        return None
    with waiting("loading the teacher"):
        return open_teacher(recipe, cached=recipe.teacher.cache.enabled and not writes)


def _vocabulary(student: Student, processor: Processor, teacher: Teacher, precision: str) -> int:
    """How many leading token ids mean the same to both.

    Raises:
        UserError: see :func:`shared_vocabulary`, or a teacher in another precision than the loss takes.
    """
    if precision != "bf16" and teacher.head_weight.dtype != torch.float32:
        raise UserError(
            f"teacher.dtype: bfloat16 goes with training in bf16, this run is in {precision}: set training.precision: bf16, or "
            "teacher.dtype: float32"
        )
    rows = (student.head.weight.shape[0], teacher.head_weight.shape[0])
    return shared_vocabulary(processor.tokenizer, teacher.processor.tokenizer, *rows)


def _written(
    recipe: Recipe, records: list[Record], teacher: Teacher, precision: str, accelerator: Accelerator, say: Say
) -> list[Record]:
    """The records with the teacher's words as their last answers."""
    with bar("answers of the teacher") if accelerator.is_main_process else nullcontext() as progress:
        writes = WrittenAnswers(teacher, recipe.data.answer_tokens, precision, recipe.data.max_length)
        share = accelerator.process_index, accelerator.num_processes
        answered = writes.replaced(records, progress, share, accelerator.wait_for_everyone)
    for line in answered.told():
        say(line)
    if not answered.records:
        raise UserError(
            "no training record has an answer of the teacher to learn from, see above; where answers are cut raise "
            "data.answer_tokens, otherwise its chat template may not be the one it knows"
        )
    return answered.records


def _prepared(
    recipe: Recipe, records: list[Record], processor: Processor, teacher: Teacher | None, say: Say
) -> PreparedRecords:
    """Check every sample's words once, before anything is trained on."""
    refuse_pictures(records, recipe.student.vision_encoder is not None)
    refuse_served_pictures(recipe, teacher, records)
    pairer = Pairer.of(recipe.data, processor, teacher.processor if teacher else None)
    skip = recipe.data.on_bad_sample == "skip"
    screening = Screening(pairer, skip)
    good, lengths = [], {}
    with bar("checking samples") as progress:
        for record, pair in screening.usable(records):
            good.append(record)
            lengths[record.id] = len(pair.student.ids)
            if len(good) % 100 == 0:
                progress(len(good), len(records))
    for kind, dropped in (
        ("cannot be used", screening.bad),
        ("differ between teacher and student", screening.mismatches),
    ):
        if dropped:
            say(f"{len(dropped)} of {len(records)} samples {kind} and are skipped; the first: {dropped[0]}")
    if screening.by_reason:
        say(f"left out, by reason:\n{screening.table()}")
    for note in pairer.notes():
        say(f"note: {note}")
    if not good:
        raise UserError("no sample is left to train on; every one was skipped")
    return PreparedRecords(good, pairer, skip, decode_pictures=True, lengths=lengths)


def _packing(recipe: Recipe, student: Student, teacher: Teacher | None, say: Say) -> Packing | None:
    """How long rows may be, where samples share them; a teacher that cannot be packed keeps one to a row.

    Raises:
        UserError: the student's language model cannot be packed.
    """
    if recipe.data.batching != "packed":
        return None
    check_documents(student.language_model)
    length = recipe.data.row_length
    cached = recipe.teacher is not None and (recipe.teacher.cache.enabled or recipe.teacher.placement == "served")
    if teacher is None or cached or not isinstance(teacher.model, Student):
        return Packing(length)
    try:
        check_documents(teacher.model.language_model)
    except UserError as error:
        say(f"note: the teacher's batches are padded: {error}")
        return Packing(length)
    return Packing(length, length)


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
        with bar("pictures") as progress:
            store.add(student.vision_encoder, (p for r in part.records for p in r.images), skip, progress)
        broken = [path for r in part.records for path in r.images if path in store.bad]
        good = [r for r in part.records if not any(path in store.bad for path in r.images)]
        if broken:
            dropped = len(part.records) - len(good)
            say(f"{dropped} of {len(part.records)} samples are skipped; the first: {store.bad[broken[0]].message}")
            reasons = Counter(store.bad[path].reason for path in dict.fromkeys(broken))
            say("pictures, by reason: " + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()))
        if not good:
            raise UserError(f"no picture can be read; the first: {store.bad[broken[0]].message}")
        part.records = good
    return store


def _shared(store: FeatureStore | None, teacher: Teacher | None) -> FeatureStore | None:
    """The features that stand for a teacher's pictures, too: those of the very same encoder."""
    if store is None or teacher is None or teacher.processor.images is None or teacher.head_weight.is_meta:
        return None
    return store if store.fits(teacher.encoder_spec, teacher.vision_encoder, teacher.processor.images.spec) else None
