"""The pass that computes what a cache is missing, on all processes of a run.

Samples of like length share a batch. Which do, follows from all samples, and not from the number of processes; a pass that was killed has
written whole batches, so those of which nothing is there are those that would have come next, and give the same bits. What is missing from
the others (samples that are new, pictures that were repaired) is cut into batches of its own.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import require_space
from taid_vlm.data import PairedBatch, PreparedRecords, make_loader
from taid_vlm.data.record import Broken
from taid_vlm.models.teacher import Teacher
from taid_vlm.training.cache.shards import SHORT_LIVED
from taid_vlm.training.cache.store import TeacherCache, samples_of
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.features import FeatureStore
from taid_vlm.training.inputs import teacher_inputs
from taid_vlm.training.precision import autocast

BATCH = 32
TYPICAL_ROWS = 64  # of a sample, to see whether the disk has room at all

Progress = Callable[[int, int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Filled:
    """What a pass took, over all processes: samples and tokens that the teacher read, and seconds."""

    samples: int = 0
    tokens: int = 0
    seconds: float = 0.0


def fill(
    cache: TeacherCache,
    missing: list[str],
    teacher: Teacher,
    prepared: PreparedRecords,
    store: FeatureStore | None,
    precision: str,
    distribution: Distribution,
    progress: Progress | None = None,
) -> Filled:
    """Compute the samples that are missing, each on one process. What is there at Ctrl-C or SIGTERM is kept.

    Args:
        missing: their ids, the same on all processes.

    Raises:
        UserError: a picture that cannot be read, states that are not finite, or no space.
    """
    start, tokens, samples = time.perf_counter(), 0, 0
    # A picture may be readable for one process and not for another.
    batches = as_main(_batches(cache, missing, prepared) if distribution.main else [], distribution)
    own = batches[distribution.rank :: distribution.world]
    require_space(
        cache.folder, TYPICAL_ROWS * cache.form.row_bytes(_width(teacher)) * len(missing), "the teacher cache"
    )
    if distribution.main:
        _sweep(cache)
    todo = sum(map(len, own))
    try:
        for count, (batch, hidden) in enumerate(states(own, teacher, prepared, store, precision), start=1):
            if batch.teacher is not None and hidden is not None:
                _check(batch, hidden, precision)
                with autocast(hidden.device, precision):
                    parts = cache.form.encode(hidden, teacher)
                cache.collect(samples_of(parts, batch))
                tokens += int(batch.teacher.attention_mask.sum())
                samples += len(batch.ids)
            if progress is not None:
                progress(min(count * BATCH, todo), todo)
    except KeyboardInterrupt:
        cache.flush()
        raise
    cache.flush()
    sums = distribution.sum([float(samples), float(tokens)])
    return Filled(int(sums[0]), int(sums[1]), time.perf_counter() - start)


@torch.no_grad()
def states(
    order: list[list[int]], teacher: Teacher, prepared: PreparedRecords, store: FeatureStore | None, precision: str
) -> Iterator[tuple[PairedBatch, Tensor | None]]:
    """Batches with the teacher's hidden states ``[R, D]`` as they come from the device; None where no sample could be used."""
    device = teacher.head_weight.device
    for batch in make_loader(prepared, order, teacher.processor.tokenizer.eos_token_id):
        if batch.teacher is None:
            yield batch, None
            continue
        inputs = teacher_inputs(batch, batch.teacher, teacher, store).to(device)
        with autocast(device, precision):
            yield batch, teacher.hidden(inputs)


def _batches(cache: TeacherCache, missing: list[str], prepared: PreparedRecords) -> list[list[int]]:
    """Indices of the samples of each batch, the longest first: memory that does not suffice is seen at once."""
    wanted = {cache.keys[name] for name in missing}
    places: dict[str, int] = {}  # one of equal samples
    for i, record in enumerate(prepared.records):
        places.setdefault(cache.keys[record.id], i)
    ordered = sorted(places, key=lambda key: (-prepared.length(places[key]), key))
    whole, left = [], []
    for batch in _cut(ordered):
        if wanted.issuperset(batch):
            whole.append(batch)
        else:  # a broken sample is always missing
            some = [key for key in batch if key in wanted]
            left += [key for key in some if not isinstance(prepared[places[key]], Broken)]
    return [[places[key] for key in batch] for batch in [*whole, *_cut(left)]]


def _cut(keys: list[str]) -> list[list[str]]:
    return [keys[i : i + BATCH] for i in range(0, len(keys), BATCH)]


def as_main(value: T, distribution: Distribution) -> T:
    """The first process's value, on all of them."""
    if distribution.world == 1:
        return value
    held = [value if distribution.main else None]
    broadcast_object_list(held)
    (found,) = held
    return found  # type: ignore[return-value]


def _check(batch: PairedBatch, hidden: Tensor, precision: str) -> None:
    if not bool(hidden.isfinite().all()):
        raise UserError(
            f"the teacher's hidden states are not finite in {precision}, in a batch of samples {', '.join(batch.ids[:3])}, ...: set "
            f"training.precision to bf16 or fp32, or look at the teacher's weights"
        )


def _width(teacher: Teacher) -> int:
    return int(teacher.head_weight.shape[1])


def _sweep(cache: TeacherCache) -> None:
    """Remove what killed processes left half-written; a file that is being written is younger."""
    for path in cache.folder.glob(".writing-*"):
        try:
            if time.time() - path.stat().st_mtime > SHORT_LIVED:
                path.unlink()
        except OSError:  # another process was faster
            continue
