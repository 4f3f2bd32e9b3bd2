"""The states of a data set's samples: on disk by key, in memory only the shard that is being collected.

Shapes: R answer rows of a batch, D the teacher's hidden size, K tokens kept.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.data import PairedBatch, PreparedRecords
from taid_vlm.data.collate import PaddedSide
from taid_vlm.data.pictures import PictureDigests
from taid_vlm.losses import TopK
from taid_vlm.models.teacher import Teacher
from taid_vlm.training.cache.forms import Form
from taid_vlm.training.cache.index import Index
from taid_vlm.training.cache.keys import keys_of
from taid_vlm.training.cache.shards import Parts, ShardReader, write_shard
from taid_vlm.training.distribution import Distribution

SHARD_SAMPLES = 256
SHARD_BYTES = 128 * 2**20


class TeacherCache:
    """What one teacher says at the answer rows of samples, by sample id.

    Args:
        folder: of this teacher, form and precision; see :func:`folder_name`.
        width: D.

    Attributes:
        online: samples may be missing, and are computed when they first come by (:meth:`through`).
    """

    def __init__(self, folder: Path, form: Form, width: int) -> None:
        self.folder, self.form, self.width = folder, form, width
        self.index, self._reader = Index(folder), ShardReader(folder)
        self.online = False
        self.keys: dict[str, str] = {}
        self._pictures = PictureDigests()
        self._collected: dict[str, Parts] = {}
        self._bytes = 0

    def know(self, prepared: PreparedRecords) -> None:
        """The samples that will be asked for.

        Raises:
            UserError: different samples have one id.
        """
        self.keys = keys_of(prepared.records, prepared.pairer, self._pictures)

    def __contains__(self, sample: str) -> bool:
        key = self.keys[sample]
        return key in self._collected or key in self.index

    def missing(self) -> list[str]:
        """Ids of the samples that nothing is known of; equal samples with different ids once."""
        return list({key: name for name, key in self.keys.items() if name not in self}.values())

    def take(self, ids: list[str]) -> Tensor | TopK:
        """``[R, D]`` hidden states in fp32, or a top-k teacher of R rows, for the samples of a batch, in their order.

        Raises:
            UserError: a shard is damaged.
        """
        found = [self.form.no_rows(self.width), *(self._parts(name) for name in ids)]
        return self.form.decode({part: torch.cat([one[part] for one in found]) for part in self.form.parts})

    def through(self, batch: PairedBatch, teacher: Teacher, compute: Callable[[], Tensor]) -> Tensor | TopK:
        """As :meth:`take`, for a batch of which samples may be missing; then it is computed whole, and they are kept.

        What is given out is what will be read later, rounded alike. A sample that is known is not replaced, so that the same steps give
        the same states however often they are begun again.

        Args:
            compute: gives the teacher's hidden states ``[R, D]`` at the rows of the batch.
        """
        new = [name for name in batch.ids if name not in self]
        if new:
            hidden = compute()
            parts = self.form.encode(hidden, teacher)
            if not bool(hidden.isfinite().all()):  # the step will be skipped, and the next time may be better
                return self.form.decode(parts)
            by_id = samples_of(parts, batch)
            self.collect({name: by_id[name] for name in new})
        return self.take(batch.ids)

    def collect(self, samples: dict[str, Parts]) -> None:
        """Keep the parts of some samples by id, all or none, and write a shard when enough have come together."""
        own = {  # not views of the whole batch
            self.keys[name]: {part: tensor.clone() for part, tensor in parts.items()} for name, parts in samples.items()
        }
        self._collected.update(own)
        self._bytes += sum(tensor.nbytes for parts in own.values() for tensor in parts.values())
        if len(self._collected) >= SHARD_SAMPLES or self._bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected. ``index.json`` is left behind: it is made good by whoever reads it.

        Raises:
            UserError: no space left.
        """
        if self._collected:
            self.index.add(write_shard(self.folder, self._collected))
            self._collected, self._bytes = {}, 0

    def meet(self, distribution: Distribution) -> None:
        """Write what each process has collected, and see what the others have; all processes must come.

        To be called before a checkpoint is written, so that a run that goes on from it meets the states that it would have met, and after
        the last step of an epoch. Between two meetings a process knows of its own samples only, so that nothing depends on who is faster.

        Raises:
            UserError: no space left, or a damaged shard.
        """
        if not self.online:  # the same on all
            return
        self.flush()
        distribution.accelerator.wait_for_everyone()
        self.index.refresh()
        if distribution.main:
            self.index.write()
        (left,) = distribution.sum([float(len(self.missing()))])
        self.online = left > 0

    def rows(self) -> int:
        """Answer rows of all samples that are on disk."""
        return sum(self.index.rows(key) for key in set(self.keys.values()) if key in self.index)

    def _parts(self, sample: str) -> Parts:
        key = self.keys[sample]
        if key in self._collected:
            return self._collected[key]
        shard = self.index.places.get(key)
        if shard is None:
            raise UserError(
                f"the teacher cache has no states of sample {sample}: its picture could not be read when it was filled; start the same "
                f"command again"
            )
        return self._reader.read(shard, key, self.form.parts)


def samples_of(parts: Parts, batch: PairedBatch) -> dict[str, Parts]:
    """The tensors of a batch by sample id."""
    assert batch.teacher is not None
    counts = rows_of_samples(batch.teacher, len(batch.ids))
    pieces = {part: tensor.split(counts) for part, tensor in parts.items()}
    return {name: {part: pieces[part][i] for part in pieces} for i, name in enumerate(batch.ids)}


def rows_of_samples(side: PaddedSide, samples: int) -> list[int]:
    """How many answer rows each sample of a batch has; a cached teacher's samples have a row of the batch each."""
    return torch.bincount(side.rows // side.input_ids.shape[1], minlength=samples).tolist()
