"""Where the bytes of a picture are: a file, memory, or a stretch of an archive.

A ``pathlib.Path`` is a picture as it is. Pictures are read when they are needed, hashable (caches know them by it), and
small enough to be sent to a worker process.
"""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol


class Picture(Protocol):
    """An encoded picture. ``str(picture)`` names it in messages; equal pictures have equal hashes."""

    def read_bytes(self) -> bytes:
        """The encoded bytes; OSError where they cannot be had."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class PictureBytes:
    """A picture in memory, equal to another with the same bytes.

    Attributes:
        place: where it came from, for messages.
    """

    data: bytes = field(repr=False, compare=False)
    place: str = field(compare=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.data).hexdigest())

    def read_bytes(self) -> bytes:
        """The bytes."""
        return self.data

    def __str__(self) -> str:
        return self.place


@dataclass(frozen=True)
class PictureInArchive:
    """A stretch of a file, for example a member of an uncompressed tar archive."""

    archive: Path
    member: str
    offset: int
    size: int

    def read_bytes(self) -> bytes:
        """The bytes, read from their place."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def __str__(self) -> str:
        return f"{self.archive}:{self.member}"


def open_stream(picture: Picture) -> BinaryIO:
    """The encoded bytes as a file: that on the disk where there is one, so that a header can be read alone.

    Raises:
        OSError: it cannot be read.
    """
    return picture.open("rb") if isinstance(picture, Path) else io.BytesIO(picture.read_bytes())
