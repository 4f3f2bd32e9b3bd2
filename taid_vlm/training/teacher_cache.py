"""The teacher's hidden states at answer rows, computed once and kept on disk.

Exact for every loss, student and epoch, because the head is applied anew. One folder for each teacher; a sample's key is the hash of its
words, its pictures' bytes and the rendering, so a changed sample is never served from an old entry.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import require_space, sha256_of, write_atomic
from taid_vlm.data.batches import PreparedRecords, make_loader
from taid_vlm.data.pairing import Pairer
from taid_vlm.data.pictures import PictureDigests
from taid_vlm.data.record import Record
from taid_vlm.models.teacher import Teacher
from taid_vlm.training.features import FeatureStore
from taid_vlm.training.inputs import teacher_inputs

BATCH = 32
SHARD = 8 * BATCH
FORMAT = 2  # a shard is named by the hash of its content


class TeacherCache:
    """Hidden states ``[rows, H]`` by sample id.

    Args:
        precision: the autocast the teacher runs under; part of the key.
    """

    def __init__(self, teacher: Teacher, dtype: str, precision: str) -> None:
        self.teacher, self.dtype, self.precision = teacher, getattr(torch, dtype), precision
        name = hashlib.sha256(f"{FORMAT} {teacher.fingerprint} {dtype} {precision}".encode()).hexdigest()[:24]
        self.folder = cache_folder() / "teacher" / name
        self._states: dict[str, Tensor] = {}
        self._pictures = PictureDigests()

    def fill(
        self, prepared: PreparedRecords, store: FeatureStore | None, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Read what is on disk and compute the rest, a shard at a time; killed, it goes on at the shard it was at."""
        ends_left_out = prepared.pairer.ends_differ
        keys = [self._key(record, ends_left_out, prepared.pairer) for record in prepared.records]
        ids = [record.id for record in prepared.records]
        if len(set(zip(ids, keys, strict=True))) > len(set(ids)):
            raise UserError(
                "two different samples have one id, so the teacher cache cannot tell them apart; make ids unique"
            )
        on_disk: dict[str, Tensor] = {}
        for file in sorted(self.folder.glob("*.safetensors")):
            on_disk.update(self._read(file))
        # A source with a weight above 1 has its samples several times.
        missing = list({ids[i]: i for i, key in enumerate(keys) if key not in on_disk}.values())
        width = self.teacher.head_weight.shape[1]
        require_space(self.folder, 64 * width * 4 * len(missing), "the teacher cache")
        for start in range(0, len(missing), SHARD):
            part = missing[start : start + SHARD]
            states = self._compute(prepared, part, store)
            named = {keys[i]: states[prepared.records[i].id] for i in part if prepared.records[i].id in states}
            if named:
                content = save(named)
                write_atomic(self.folder / f"{hashlib.sha256(content).hexdigest()[:24]}.safetensors", content)
            on_disk.update(named)
            if progress is not None:
                progress(min(start + SHARD, len(missing)), len(missing))
        self._states = {r.id: on_disk[k] for r, k in zip(prepared.records, keys, strict=True) if k in on_disk}

    def take(self, ids: list[str]) -> Tensor:
        """``[R, H]`` in fp32 for the samples of a batch, in their order."""
        width = self.teacher.head_weight.shape[1]
        return torch.cat([torch.zeros(0, width), *(self._states[name].float() for name in ids)])

    def _compute(self, prepared: PreparedRecords, part: Sequence[int], store: FeatureStore | None) -> dict[str, Tensor]:
        pad = self.teacher.processor.tokenizer.eos_token_id
        order = [list(part[i : i + BATCH]) for i in range(0, len(part), BATCH)]
        device = self.teacher.head_weight.device
        states: dict[str, Tensor] = {}
        for batch in make_loader(prepared, order, pad):
            if batch.teacher is None:
                continue
            inputs = teacher_inputs(batch, batch.teacher, self.teacher, store).to(device)
            with autocast(device, self.precision):
                hidden = self.teacher.hidden(inputs).to(self.dtype).cpu()
            counts = torch.bincount(batch.teacher.rows // batch.teacher.input_ids.shape[1], minlength=len(batch.ids))
            for name, piece in zip(batch.ids, hidden.split(counts.tolist()), strict=True):
                states[name] = piece.clone()
        return states

    def _key(self, record: Record, ends_left_out: bool, pairer: Pairer) -> str:
        digest = hashlib.sha256(record.text_digest().encode())
        if ends_left_out:  # fewer rows of the same words
            digest.update(b"ends left out")
        if record.text is not None:  # which of its tokens are said depends on the student's tokenizer, too
            side = pairer.pair(record).teacher
            digest.update(repr(side and side.rows).encode())
        for picture in record.images:
            digest.update(self._pictures[picture].encode())
        return digest.hexdigest()

    def _read(self, file: Path) -> dict[str, Tensor]:
        try:
            if sha256_of(file)[:24] != file.stem:
                raise ValueError("its content does not have the hash that its name says")
            with safe_open(file, framework="pt") as tensors:
                return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        except Exception as error:
            raise UserError(
                f"the teacher cache is damaged: {file} ({error}); delete the file, it will be computed again"
            ) from error


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context that a precision name stands for."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
