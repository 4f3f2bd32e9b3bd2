"""Which samples make up which step, and their preparation.

The samples of a step are a function of the seed and the step alone, so that a resumed run meets the samples that it would have met, on any
number of processes. How they are dealt to micro-batches changes no gradient.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from taid_vlm.common.errors import UserError
from taid_vlm.data.collate import PairedBatch, collate
from taid_vlm.data.dealing import DEALS
from taid_vlm.data.images import open_image
from taid_vlm.data.packing import Packing, pack_rows, split_in_order
from taid_vlm.data.pairing import Pair, Pairer
from taid_vlm.data.record import BadSampleError, Broken, Record

Prepared = tuple[Pair, list[Image.Image]] | Broken


class PreparedRecords(Dataset[Prepared]):
    """Records rendered and decoded on demand; a bad one is an error, or what is wrong with it when bad ones are skipped.

    Args:
        lengths: tokens of the student's rendering by sample id, as far as they are known.
    """

    def __init__(
        self,
        records: Sequence[Record],
        pairer: Pairer,
        skip_bad: bool,
        decode_pictures: bool,
        lengths: dict[str, int] | None = None,
    ) -> None:
        self.records, self.pairer = records, pairer
        self.skip_bad, self.decode_pictures = skip_bad, decode_pictures
        self.lengths = {} if lengths is None else lengths

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Prepared:
        try:
            pair = self.pairer.pair(self.records[index])
            return pair, [open_image(path) for path in pair.images] if self.decode_pictures else []
        except BadSampleError as error:
            if not self.skip_bad:
                raise UserError(f"{error}; repair it, or set data.on_bad_sample: skip") from error
            return Broken(error.reason, str(error))

    def length(self, index: int) -> int:
        """Tokens of a sample's rendering for the student; 0 of one that cannot be rendered, which is told when its turn comes."""
        record = self.records[index]
        if record.id not in self.lengths:
            try:
                self.lengths[record.id] = len(self.pairer.pair(record).student.ids)
            except BadSampleError:
                self.lengths[record.id] = 0
        return self.lengths[record.id]


class StepOrder:
    """Indices of the samples of each micro-batch of one process, from a step on.

    Epoch e is a permutation drawn from ``seed`` and e; step s takes the ``batch_size`` samples after those of step s - 1, and its samples
    are dealt to the processes and their micro-batches, in order or by length.

    Args:
        batching: exact name of a deal (``data.batching``).
        length: tokens of a sample by its index, asked for where the deal depends on them; the same on all processes.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        micro: int,
        seed: int,
        first_step: int,
        last_step: int,
        rank: int = 0,
        world: int = 1,
        batching: str = "padded",
        length: Callable[[int], int] | None = None,
    ) -> None:
        if batch_size % (micro * world):
            raise UserError(
                f"batch_size {batch_size} cannot be dealt to {world} processes in micro-batches of {micro}; "
                f"choose training.micro_batch_size so that batch_size is a multiple of processes x micro_batch_size"
            )
        self.size, self.batch_size, self.micro, self.seed = size, batch_size, micro, seed
        self.first_step, self.last_step, self.rank, self.world = first_step, last_step, rank, world
        self.deal, self.length = DEALS.get(batching), length

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * self._micro_batches

    def __iter__(self) -> Iterator[list[int]]:
        for samples in self._steps():
            lengths = [0 if self.length is None else self.length(index) for index in samples]
            for places in self.deal(lengths, self.world, self._micro_batches)[self.rank]:
                yield [samples[place] for place in places]

    @property
    def _micro_batches(self) -> int:
        return self.batch_size // (self.micro * self.world)

    def _steps(self) -> Iterator[list[int]]:
        """The samples of each step, over all processes."""
        epoch, order = -1, torch.empty(0, dtype=torch.long)
        for step in range(self.first_step, self.last_step):
            chosen = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.size != epoch:
                    epoch = position // self.size
                    generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                    order = torch.randperm(self.size, generator=generator)
                chosen.append(int(order[position % self.size]))
            yield chosen


class MakesPixels(Protocol):
    """The part of a model's processor that turns pictures into tensors."""

    def pixel_values(self, images: list[Image.Image]) -> Tensor:
        """``[tiles, 3, size, size]``."""
        ...

    def tiles_per_image(self, size: tuple[int, int]) -> int:
        """How many of them a picture of (width, height) has."""
        ...


@dataclass(frozen=True)
class Join:
    """Makes a batch of prepared samples; workers that are not forked receive it by pickle.

    Attributes:
        pad_id: fills rows up.
        packing: how many tokens a row takes; None gives each sample a row.
        student: makes the pixels of the student's side, in the worker, so that training does not wait for it.
        keep_pictures: also hand on the pictures, for another model.
    """

    pad_id: int
    packing: Packing | None = None
    student: MakesPixels | None = None
    keep_pictures: bool = True

    def __call__(self, prepared: list[Prepared]) -> PairedBatch:
        """The samples that could be prepared, and what is wrong with the others."""
        good = [one for one in prepared if not isinstance(one, Broken)]
        dropped = [one for one in prepared if isinstance(one, Broken)]
        student_rows = teacher_rows = None
        if self.packing is not None:
            # Samples are put in the order in which they stand in the rows: so pictures are in that of their placeholders.
            rows = pack_rows([len(pair.student.ids) for pair, _ in good], self.packing.student)
            good = [good[index] for row in rows for index in row]
            student_rows = [len(row) for row in rows]
            if self.packing.teacher is not None:
                theirs = [len(pair.teacher.ids) for pair, _ in good if pair.teacher is not None]
                teacher_rows = split_in_order(theirs, self.packing.teacher)
        pictures = [picture for _, some in good for picture in some]
        pairs = [pair for pair, _ in good]
        batch = collate(pairs, pictures, self.pad_id, dropped, student_rows, teacher_rows)
        if self.student is None or not pictures:
            return batch
        tiles = tuple(self.student.tiles_per_image(picture.size) for picture in pictures)
        side = replace(batch.student, pixel_values=self.student.pixel_values(pictures), tiles=tiles)
        return replace(batch, student=side, pictures=pictures if self.keep_pictures else [])


def _leave_signals(worker: int) -> None:
    """Signals go to all processes of a group; the training process decides, and still needs its batches."""
    for name in ("SIGTERM", "SIGUSR1", "SIGINT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def make_loader(
    records: PreparedRecords,
    order: StepOrder | list[list[int]],
    join: int | Join,
    workers: int = 0,
    *,
    prefetch: int = 2,
    pin_memory: bool = False,
) -> DataLoader[PairedBatch]:
    """Batches in the order asked for, prepared by ``workers`` processes.

    Args:
        join: how samples become a batch; a padding id alone pads them.
        prefetch: batches that each worker prepares ahead.
        pin_memory: put tensors where a GPU reads them while the processor goes on.
    """
    options: dict[str, Any] = {}
    if workers:
        options = {"prefetch_factor": prefetch, "persistent_workers": True, "worker_init_fn": _leave_signals}
    return DataLoader(
        records,  # type: ignore[arg-type]
        batch_sampler=order,
        collate_fn=join if isinstance(join, Join) else Join(join),
        # It draws a seed for its workers: of a generator of its own, or dropout would draw otherwise after a resume.
        generator=torch.Generator(),
        num_workers=workers,
        pin_memory=pin_memory,
        **options,
    )
