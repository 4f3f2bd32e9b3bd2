"""Which samples make up which step, and their preparation.

The order is a function of the seed and the step alone, so that a resumed run meets the samples that it would have met, on any number of
processes.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from taid_vlm.common.errors import UserError
from taid_vlm.data.collate import PairedBatch, collate
from taid_vlm.data.images import open_image
from taid_vlm.data.pairing import Pair, Pairer
from taid_vlm.data.record import BadSampleError, Record

Prepared = tuple[Pair, list[Image.Image]] | str


class PreparedRecords(Dataset[Prepared]):
    """Records rendered and decoded on demand; a bad one is an error, or its message when bad ones are skipped."""

    def __init__(self, records: Sequence[Record], pairer: Pairer, skip_bad: bool, decode_pictures: bool) -> None:
        self.records, self.pairer = records, pairer
        self.skip_bad, self.decode_pictures = skip_bad, decode_pictures

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Prepared:
        try:
            pair = self.pairer.pair(self.records[index])
            return pair, [open_image(path) for path in pair.images] if self.decode_pictures else []
        except BadSampleError as error:
            if not self.skip_bad:
                raise UserError(f"{error}; repair it, or set data.on_bad_sample: skip") from error
            return str(error)


class StepOrder:
    """Indices of the samples of each micro-batch of one process, from a step on.

    Epoch e is a permutation drawn from ``seed`` and e; step s takes the ``batch_size`` samples after those of step s - 1, and its samples
    are dealt to the processes and their micro-batches in order.
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
    ) -> None:
        if batch_size % (micro * world):
            raise UserError(
                f"batch_size {batch_size} cannot be dealt to {world} processes in micro-batches of {micro}; "
                f"choose training.micro_batch_size so that batch_size is a multiple of processes x micro_batch_size"
            )
        self.size, self.batch_size, self.micro, self.seed = size, batch_size, micro, seed
        self.first_step, self.last_step, self.rank, self.world = first_step, last_step, rank, world

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * (self.batch_size // (self.micro * self.world))

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch_size // self.world
        epoch, order = -1, torch.empty(0, dtype=torch.long)
        for step in range(self.first_step, self.last_step):
            start = step * self.batch_size + self.rank * share
            for first in range(start, start + share, self.micro):
                chosen = []
                for position in range(first, first + self.micro):
                    if position // self.size != epoch:
                        epoch = position // self.size
                        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                        order = torch.randperm(self.size, generator=generator)
                    chosen.append(int(order[position % self.size]))
                yield chosen


def make_loader(
    records: PreparedRecords, order: StepOrder | list[list[int]], pad_id: int, workers: int = 0
) -> DataLoader[PairedBatch]:
    """Batches in the order asked for, prepared by ``workers`` processes."""
    join = partial(_joined, pad_id)
    return DataLoader(records, batch_sampler=order, collate_fn=join, num_workers=workers)  # type: ignore[arg-type]


# At module level, because workers that are not forked receive it by pickle.
def _joined(pad_id: int, prepared: list[Prepared]) -> PairedBatch:
    good = [one for one in prepared if not isinstance(one, str)]
    pictures = [picture for _, some in good for picture in some]
    return collate([pair for pair, _ in good], pictures, pad_id, [one for one in prepared if isinstance(one, str)])
