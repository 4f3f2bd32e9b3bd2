"""How long the samples of a recipe are, and which micro-batch of the run is the largest."""

import random
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import median

from taid_vlm.common.errors import UserError
from taid_vlm.data import BadSampleError, Pair, Pairer, Record, StepOrder, read_records
from taid_vlm.data.images import image_size
from taid_vlm.data.packing import Packing, pack_rows
from taid_vlm.data.pairing import Side
from taid_vlm.data.pictures import Picture
from taid_vlm.data.screening import Screening, refuse_pictures
from taid_vlm.models.documents import check_documents
from taid_vlm.models.native.processor import NativeProcessor
from taid_vlm.models.processor import Processor
from taid_vlm.models.student import Student
from taid_vlm.planning.fake import BatchShape
from taid_vlm.planning.models import Models
from taid_vlm.recipe.schema import Recipe

SAMPLE = 2000
PICTURES = 64  # whose sizes are looked at
PIXEL = 4  # bytes that Pillow keeps for a pixel of an RGB picture
STEPS = 2000  # micro-batches of so many steps are looked at


@dataclass(frozen=True)
class Samples:
    """Rendered records, or a stand-in for them.

    Attributes:
        pairs: rendered samples that can be used. records: of the train sources in all, and with validation (``everything``).
        pictures: different picture files of all sources.
        picture_bytes: of a decoded picture, mean of some. bad: samples that were refused. note: what was assumed; empty when every record was rendered.
        estimated: whether no record could be read.
    """

    pairs: list[Pair]
    records: int
    everything: int
    pictures: int
    picture_bytes: int
    bad: int
    note: str
    estimated: bool = False

    def lengths(self) -> list[int]:
        """Tokens of the student's renderings."""
        return [len(pair.student.ids) for pair in self.pairs]

    def answers(self) -> list[int]:
        """Supervised tokens of each sample."""
        return [len(pair.labels) for pair in self.pairs]


def sample_records(recipe: Recipe, models: Models, most: int = SAMPLE) -> Samples:
    """Render up to ``most`` training records for both models, as training would.

    Raises:
        UserError: what training would refuse, among the rendered samples.
    """
    try:
        train = read_records(recipe.data.train, recipe.seed)
        other = read_records(recipe.data.validation, recipe.seed) if recipe.data.validation else []
    except UserError as error:
        return _estimate(recipe, models, str(error))
    refuse_pictures(train, recipe.student.vision_encoder is not None)
    chosen, note = train, ""
    if len(train) > most:
        chosen = random.Random(recipe.seed).sample(train, most)
        note = f"lengths of {most} of {len(train)} records, drawn at random"
    pictures = list(dict.fromkeys(path for record in (*train, *other) for path in record.images))
    pairs, bad = _rendered(recipe, models, chosen)
    return Samples(
        pairs, len(train), len(train) + len(other), len(pictures), _decoded_bytes(pictures, recipe.seed), bad, note
    )


def scaled(samples: Samples, records: int) -> Samples:
    """The same lengths, of a training set of so many records."""
    pictures = round(samples.pictures * records / samples.records)
    held_out = samples.everything - samples.records
    return replace(samples, records=records, everything=records + held_out, pictures=pictures)


def _decoded_bytes(pictures: list[Picture], seed: int) -> int:
    sizes = []
    for path in random.Random(seed).sample(pictures, min(len(pictures), PICTURES)):
        with suppress(BadSampleError):
            width, height = image_size(path)
            sizes.append(PIXEL * width * height)
    return round(sum(sizes) / len(sizes)) if sizes else 0


def _rendered(recipe: Recipe, models: Models, records: Sequence[Record]) -> tuple[list[Pair], int]:
    teacher = models.teacher.processor if models.teacher is not None else None
    pairer = Pairer.of(recipe.data, models.processor, teacher)
    screening = Screening(pairer, recipe.data.on_bad_sample == "skip")
    pairs = [pair for _, pair in screening.usable(records)]
    if not pairs:
        raise UserError("no sample is left to train on; every one was skipped")
    return pairs, len(screening.bad) + len(screening.mismatches)


def _estimate(recipe: Recipe, models: Models, why: str) -> Samples:
    """One conversation as long as the recipe allows, of which a quarter is the answer; a picture if there is an encoder."""
    record = Record("estimate", [{"role": "user", "content": "?"}, {"role": "assistant", "content": "."}])
    longest = recipe.data.max_length
    rows = list(range(longest - max(1, longest // 4), longest))
    student = [models.processor.tokenizer.eos_token_id or 0] * longest
    if models.processor.images is not None and models.processor.image_token_id is not None:
        count = min(models.processor.images.per_tile, longest)
        student[:count] = [models.processor.image_token_id] * count
    side = Side(student, rows)
    pair = Pair(record.id, [0] * len(rows), side, side if models.teacher is not None else None, ())
    note = f"the data cannot be read here ({why}), so every sample is taken to have {longest} tokens, a quarter of them answers"
    samples = recipe.training.batch_size * recipe.training.steps
    return Samples([pair], samples, samples, samples, 0, 0, note, estimated=True)


def micro_batch(recipe: Recipe, world: int) -> int:
    """Samples per forward, of one process.

    Raises:
        UserError: the batch cannot be dealt to so many processes.
    """
    training = recipe.training
    micro = training.samples_per_forward(world)
    StepOrder(1, training.batch_size, micro, 0, 0, 0, 0, world)  # refuses what does not divide
    return micro


def largest_step(
    recipe: Recipe, samples: Samples, models: Models, world: int, micro: int
) -> tuple[BatchShape, BatchShape | None]:
    """The student's and the teacher's side of the largest micro-batch, of ``micro`` samples, that the first process meets."""
    pairs, data = samples.pairs, recipe.data
    steps = 1 if len(pairs) == 1 else min(recipe.training.steps, STEPS)  # of one sample all batches are alike
    order = StepOrder(
        len(pairs),
        recipe.training.batch_size,
        micro,
        recipe.seed,
        0,
        steps,
        0,
        world,
        data.batching,
        lambda index: len(pairs[index].student.ids),
    )
    return largest([[pairs[i] for i in some] for some in order], models, packing_of(recipe, models))


def packing_of(recipe: Recipe, models: Models) -> Packing | None:
    """How long rows may be, where samples share them; None gives each a row.

    Raises:
        UserError: the student's language model cannot be packed.
    """
    if recipe.data.batching != "packed":
        return None
    check_documents(models.student.language_model)
    length, teacher = recipe.data.row_length, None
    if models.teacher is not None and isinstance(models.teacher.model, Student):
        with suppress(UserError):
            check_documents(models.teacher.model.language_model)
            teacher = length
    return Packing(length, teacher)


def largest(
    batches: Iterable[list[Pair]], models: Models, packing: Packing | None = None
) -> tuple[BatchShape, BatchShape | None]:
    """Shapes of the batch with the most cells, padding included."""
    row, their_row = (packing.student, packing.teacher) if packing is not None else (None, None)

    def size(batch: list[Pair]) -> tuple[int, int]:
        cells = [_rows([len(p.student.ids) for p in batch], row)]
        cells.append(_rows([len(p.teacher.ids) for p in batch if p.teacher is not None], their_row))
        return sum(count * length for count, length in cells), sum(len(p.labels) for p in batch)

    batch = max(batches, key=size)
    student = _shape([(p.student.ids, len(p.labels)) for p in batch], models.processor, row)
    if models.teacher is None:
        return student, None
    sides = [(p.teacher.ids, len(p.labels)) for p in batch if p.teacher is not None]
    return student, _shape(sides, models.teacher.processor, their_row)


def _rows(lengths: list[int], capacity: int | None) -> tuple[int, int]:
    """How many rows there are, and how long they are."""
    if capacity is None:
        return len(lengths), max(lengths, default=0)
    rows = pack_rows(lengths, capacity)
    return len(rows), max((sum(lengths[i] for i in row) for row in rows), default=0)


def _shape(
    sides: list[tuple[list[int], int]], processor: Processor | NativeProcessor, capacity: int | None
) -> BatchShape:
    count, length = _rows([len(ids) for ids, _ in sides], capacity)
    rows = sum(labels for _, labels in sides)
    packed = capacity is not None
    if processor.images is None or processor.image_token_id is None:
        return BatchShape(count, length, rows, packed=packed)
    tokens = sum(ids.count(processor.image_token_id) for ids, _ in sides)
    return BatchShape(count, length, rows, tokens // processor.images.per_tile, tokens, packed)


def tiles_per_picture(samples: Samples, processor: Processor) -> float:
    """Mean number of tiles."""
    pictures = sum(len(pair.images) for pair in samples.pairs)
    if processor.images is None or not pictures:
        return 1.0
    tokens = sum(pair.student.ids.count(processor.image_token_id or 0) for pair in samples.pairs)
    return tokens / processor.images.per_tile / pictures


def middle(values: list[int]) -> int:
    """Median, rounded."""
    return round(median(values))
