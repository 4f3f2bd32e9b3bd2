"""A run's cache at its start: opened, filled where the recipe says so, and told about."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm.common.shared import PATIENCE, PAUSE
from taid_vlm.data import PreparedRecords
from taid_vlm.data.record import Broken
from taid_vlm.losses.topk import check_tail
from taid_vlm.models.teacher import Teacher
from taid_vlm.recipe.teacher_spec import TeacherSpec
from taid_vlm.training.cache.fill import Filled, Progress, as_main, fill
from taid_vlm.training.cache.forms import HiddenStates, MostLikely, form_of
from taid_vlm.training.cache.head import give_head, head_file, write_head
from taid_vlm.training.cache.keys import folder_name
from taid_vlm.training.cache.measure import Loss, measured, table
from taid_vlm.training.cache.store import TeacherCache
from taid_vlm.training.distribution import Distribution
from taid_vlm.training.features import FeatureStore

FEW = 32  # samples that are looked at again before a teacher is loaded for them


@dataclass(frozen=True)
class Opening:
    """What a cache is opened for.

    Attributes:
        spec: the recipe's teacher. precision: autocast of the run.
        load: gives the teacher with its weights, on the device. store_of: features that stand for the pictures of a teacher.
        loss: what the run learns by, for measuring what rounding does to it. bar: makes a progress bar.
    """

    spec: TeacherSpec
    precision: str
    distribution: Distribution
    load: Callable[[], Teacher]
    store_of: Callable[[Teacher], FeatureStore | None]
    loss: Loss
    bar: Callable[[str], AbstractContextManager[Progress]]
    say: Callable[[str], None]

    def open(self, teacher: Teacher, parts: list[PreparedRecords | None]) -> tuple[TeacherCache, Teacher]:
        """The cache and the teacher as training needs them: without weights where everything is on disk.

        Args:
            teacher: with or without weights.

        Raises:
            UserError: a tail rule that the loss cannot have, a damaged cache, or samples that cannot be told apart or computed.
        """
        # Loaders draw from the generator: dropout must not depend on what was on disk.
        with torch.random.fork_rng(devices=[]):
            return self._open(teacher, parts)

    def _open(self, teacher: Teacher, parts: list[PreparedRecords | None]) -> tuple[TeacherCache, Teacher]:
        form = form_of(self.spec.cache)
        if isinstance(form, MostLikely):
            check_tail(form.tail, self.loss.spec)
        cache = self._cache(teacher)
        prepared = _joined(parts, decode=teacher.sees)
        cache.know(prepared)
        # One process may know the teacher while another has loaded it: all must take the same way.
        weightless = any(self.distribution.gather(bool(teacher.head_weight.is_meta)))
        lacking = self._lacking(cache, prepared, looks_first=weightless)
        if lacking and weightless:
            teacher = self.load() if teacher.head_weight.is_meta else teacher
            keys, cache = cache.keys, self._cache(teacher)  # the same, but where what was remembered of it was wrong
            cache.keys = keys
            lacking = self._lacking(cache, prepared, looks_first=False)
        store = None if teacher.head_weight.is_meta else self.store_of(teacher)
        prepared.decode_pictures = teacher.sees and store is None
        before, filled = self.spec.cache.fill == "before", Filled()
        missing, seen = [name for name in lacking if name != HEAD], _files(cache)
        if before and missing:
            with self.bar("teacher") if self.distribution.main else nullcontext() as progress:
                filled = fill(cache, missing, teacher, prepared, store, self.precision, self.distribution, progress)
        if self.distribution.main:
            if not teacher.head_weight.is_meta and form.needs_head:
                write_head(cache.folder, teacher)
            cache.index.write()
        self.distribution.accelerator.wait_for_everyone()
        cache.index.refresh()
        self._check_shared(cache, seen)
        if filled.samples and form != HiddenStates("float32") and self.distribution.main:
            rows = measured([form], self.loss, teacher, prepared, store, self.precision)
            self.say(f"what the cache rounds away, against the teacher itself:\n{table(rows)}")
        cache.online = not before and bool(missing)
        self._drop(cache, teacher)
        for line in _told(cache, filled):
            self.say(line)
        return cache, teacher

    def _cache(self, teacher: Teacher) -> TeacherCache:
        form = form_of(self.spec.cache)
        folder = cache_folder() / "teacher" / folder_name(teacher, form, self.precision)
        return TeacherCache(folder, form, int(teacher.head_weight.shape[1]))

    def _lacking(self, cache: TeacherCache, prepared: PreparedRecords, looks_first: bool) -> list[str]:
        """Ids of samples that are not on disk, and HEAD; as the first process sees it, so that all do the same."""
        missing = cache.missing()
        if looks_first and len(missing) <= max(FEW, len(prepared) // 100):  # a broken picture's sample is never there
            places = {record.id: i for i, record in enumerate(prepared.records)}
            missing = [name for name in missing if not isinstance(prepared[places[name]], Broken)]
        if cache.form.needs_head and head_file(cache.folder) is None:
            missing.append(HEAD)
        return as_main(missing, self.distribution)

    def _check_shared(self, cache: TeacherCache, before: set[str]) -> None:
        """What the first process sees and what any has written all must see; other runs may add to the folder meanwhile.

        Args:
            before: files that this process saw before it wrote.

        Raises:
            UserError: on all processes, where one does not.
        """
        if self.distribution.world == 1:
            return
        mine = _files(cache)
        expected = as_main(mine, self.distribution).union(*self.distribution.gather(mine - before))
        self.distribution.accelerator.wait_for_everyone()
        until = time.monotonic() + PATIENCE
        while expected - _files(cache) and time.monotonic() < until:
            time.sleep(PAUSE)
            cache.index.refresh()
        if any(self.distribution.gather(bool(expected - _files(cache)))):
            raise UserError(
                f"the processes of this run do not see the same files in {cache.folder}: on several machines set TAID_VLM_CACHE to a "
                f"folder on a disk that all of them share"
            )

    def _drop(self, cache: TeacherCache, teacher: Teacher) -> None:
        """Let go of what training will not ask for."""
        if teacher.head_weight.is_meta:
            if cache.form.needs_head:
                give_head(cache.folder, teacher, self.distribution.device)
        elif not cache.online:
            teacher.keep_head()  # only the head is needed from here on


HEAD = "\0head"  # no sample's id


def _files(cache: TeacherCache) -> set[str]:
    """Names of the shards that a process knows, and of the head where there is need of one."""
    head = head_file(cache.folder) if cache.form.needs_head else None
    return set(cache.index.shards) | ({head.name} if head is not None else set())


def _joined(parts: list[PreparedRecords | None], decode: bool) -> PreparedRecords:
    given = [part for part in parts if part is not None]
    records = [record for part in given for record in part.records]
    lengths = {name: length for part in given for name, length in part.lengths.items()}
    return PreparedRecords(records, given[0].pairer, given[0].skip_bad, decode_pictures=decode, lengths=lengths)


def _told(cache: TeacherCache, filled: Filled) -> list[str]:
    """The closing summary."""
    rows, disk = cache.rows(), sum(shard.size for shard in cache.index.shards.values())
    here = len({key for key in cache.keys.values() if key in cache.index})
    lines = [f"teacher cache: {here:,} samples, {rows:,} answer tokens as {cache.form.name}, in {cache.folder}"]
    each = f", {cache.form.row_bytes(cache.width):,} bytes per token" if rows else ""
    head = head_file(cache.folder)
    beside = f", and the head, {_size(head.stat().st_size)}" if head is not None else ""
    lines.append(f"  on disk: {_size(disk)}{each}{beside}")
    if filled.samples:
        pace = filled.tokens / max(filled.seconds, 1e-9)
        lines.append(
            f"  computed now: {filled.samples:,} samples, {filled.tokens:,} tokens in {filled.seconds:,.1f} s ({pace:,.0f} tokens/s)"
        )
    lines.append(f"  in memory: its index alone, {_size(cache.index.memory)}; states are read batch by batch")
    if cache.online:
        lines.append(f"  {len(cache.missing()):,} samples are computed in the step in which they first come by")
    return lines


def _size(size: int) -> str:
    return f"{size / 1e3:,.0f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"
