"""What the teacher's cache takes, and after how many epochs it pays."""

from dataclasses import dataclass

import torch

from taid_vlm.planning.job import Job
from taid_vlm.recipe.teacher_cache import TeacherCache


@dataclass(frozen=True)
class CachePlan:
    """The cache of all samples.

    Attributes:
        disk_bytes: of the hidden states at answer rows. row_bytes: of one row.
        fill_hours: of the pass that fills it. epochs: that the run has.
        pays_after: epochs after which it has saved as much time as it took; None where it never does.
        read_rate: bytes per second that all processes read together in training.
    """

    disk_bytes: int
    row_bytes: int
    fill_hours: float
    epochs: float
    pays_after: float | None
    read_rate: float


def row_bytes(cache: TeacherCache, width: int) -> int:
    """Bytes that the cache takes for an answer token, of a teacher whose hidden states have this width."""
    dtype: torch.dtype = getattr(torch, cache.dtype)
    if cache.top_k is not None:  # a log-probability and a token id
        return cache.top_k * (dtype.itemsize + torch.int32.itemsize)
    return width * dtype.itemsize


def cache_plan(job: Job, row_bytes: int, fill_hours: float, online_step: float, cached_step: float) -> CachePlan:
    """Compare a run with its teacher in every step and one with its states on disk.

    Args:
        row_bytes: of an answer token. online_step, cached_step: seconds.
    """
    samples, training = job.samples, job.recipe.training
    rows = sum(samples.answers()) / len(samples.pairs)
    steps = samples.records / training.batch_size  # of an epoch
    saved = (online_step - cached_step) * steps / 3600
    return CachePlan(
        disk_bytes=round(samples.everything * rows * row_bytes),
        row_bytes=row_bytes,
        fill_hours=fill_hours,
        epochs=training.steps / steps,
        pays_after=fill_hours / saved if saved > 0 else None,
        read_rate=training.batch_size * rows * row_bytes / cached_step if cached_step else 0.0,
    )
