"""Shards of a cache: safetensors files that carry the SHA-256 of their content as their name.

A shard is complete or it is not there; what wrote it, when and on which of several processes, makes no difference.
"""

import os
import re
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import disk_errors, fsync_folder, sha256_of

NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
OPEN = 64  # shards that are mapped at the same time
SHORT_LIVED = 86_400  # seconds; nobody is still writing a file that is older
Parts = dict[str, Tensor]  # of one sample


@dataclass(frozen=True)
class Shard:
    """One file.

    Attributes:
        sha256: of its content, and its name. size: bytes. rows: of each sample in it, by key.
    """

    sha256: str
    size: int
    rows: dict[str, int]

    @property
    def file(self) -> str:
        """Name in its folder."""
        return f"{self.sha256}.safetensors"


def write_named(
    folder: Path, tensors: dict[str, Tensor], prefix: str = "", metadata: dict[str, str] | None = None
) -> str:
    """Write a safetensors file, and only then give it its name, PREFIX and the SHA-256 of its content; returns that.

    Args:
        metadata: at most one entry, for several have no order, and equal content would get different names.

    Raises:
        UserError: no space, or a folder that cannot be written to.
    """
    with disk_errors("the teacher cache", folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".writing-")
        os.close(handle)
        try:
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, name, metadata=metadata)
            with open(name, "rb") as file:
                os.fsync(file.fileno())
            sha256 = sha256_of(Path(name))
            os.chmod(name, 0o644)
            os.replace(name, folder / f"{prefix}{sha256}.safetensors")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    fsync_folder(folder)
    return sha256


def write_shard(folder: Path, samples: dict[str, Parts]) -> Shard:
    """Write the tensors of some samples, by key."""
    named = {f"{key}.{part}": tensor for key, parts in samples.items() for part, tensor in parts.items()}
    sha256 = write_named(folder, named)
    rows = {key: len(next(iter(parts.values()))) for key, parts in samples.items()}
    return Shard(sha256, (folder / f"{sha256}.safetensors").stat().st_size, rows)


def read_header(file: Path) -> Shard:
    """What a shard holds, from its header alone.

    Raises:
        UserError: it is damaged.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            rows = {name.partition(".")[0]: tensors.get_slice(name).get_shape()[0] for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise damaged(file, error) from error
    return Shard(file.stem, file.stat().st_size, rows)


def damaged(file: Path, why: object) -> UserError:
    """What is wrong with a file of a cache, and what to do."""
    return UserError(f"the teacher cache is damaged: {file} ({why}); delete the file, it will be computed again")


def verify(file: Path, sha256: str) -> None:
    """Hold a file to the hash in its name.

    Raises:
        UserError: it has other content.
    """
    try:
        found = sha256_of(file)
    except OSError as error:
        raise damaged(file, error.strerror) from error
    if found != sha256:
        raise damaged(file, f"its content has the SHA-256 {found}, not that of its name")


class ShardReader:
    """Reads samples from mapped files; each file is held to its hash when it is first read.

    No more than ``OPEN`` files are mapped at a time, and mapped memory is the system's to take back.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._verified: set[str] = set()
        self._open: OrderedDict[str, tuple[Any, ExitStack]] = OrderedDict()

    def read(self, shard: Shard, key: str, parts: Sequence[str]) -> Parts:
        """The tensors of one sample.

        Raises:
            UserError: the shard is damaged.
        """
        return {part: self._tensors(shard).get_tensor(f"{key}.{part}") for part in parts}

    def _tensors(self, shard: Shard) -> Any:
        if shard.sha256 in self._open:
            self._open.move_to_end(shard.sha256)
            return self._open[shard.sha256][0]
        file = self.folder / shard.file
        if shard.sha256 not in self._verified:
            verify(file, shard.sha256)
            self._verified.add(shard.sha256)
        stack = ExitStack()
        self._open[shard.sha256] = stack.enter_context(safe_open(file, framework="pt")), stack
        if len(self._open) > OPEN:
            _, (_, oldest) = self._open.popitem(last=False)
            oldest.close()
        return self._open[shard.sha256][0]
