"""Where the bytes of a picture are: a file, memory, a stretch of an archive, or a cell of a table.

A ``pathlib.Path`` is a picture as it is. Pictures are read when they are needed, hashable (caches know them by it), and
small enough to be sent to a worker process.
"""

import hashlib
import io
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from PIL import Image

from taid_vlm.common.files import open_plain

# Modes that PNG keeps as they are, and those that TIFF keeps; the rest (HSV, premultiplied alpha) has a near relative.
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
TIFF_MODES = ("PA", "I", "F", "RGBX", "CMYK", "YCbCr", "LAB")
RELATIVES = {"HSV": "RGB", "RGBa": "RGBA", "La": "LA"}


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


@dataclass(frozen=True)
class PictureInTable:
    """A cell of an Arrow file as data sets write it: bytes, ``{bytes, path}``, or one of a list of these.

    The file is mapped, not read: what is fetched is the cell.

    Attributes:
        index: place in the list of the cell; None where the cell is the picture.
        place: row and column in the user's terms, for messages.
    """

    file: Path
    row: int
    column: str
    index: int | None
    place: str = field(compare=False)

    def read_bytes(self) -> bytes:
        """The bytes, read from their cell."""
        cell = arrow_table(self.file)[self.column][self.row]
        if self.index is not None:
            cell = cell.values[self.index]
        found = cell.as_py()
        data: bytes = found["bytes"] if isinstance(found, dict) else found
        return data

    def __str__(self) -> str:
        return self.place


@lru_cache(maxsize=64)
def arrow_table(file: Path) -> Any:
    """The table of an Arrow file, mapped into memory; each process opens a file once."""
    import pyarrow as pa

    mapped = pa.memory_map(str(file))
    try:
        return pa.ipc.open_stream(mapped).read_all()
    except pa.ArrowInvalid:  # the other of the two formats of Arrow files
        return pa.ipc.open_file(mapped).read_all()


def picture_in_memory(image: Image.Image, place: str) -> PictureBytes:
    """A decoded picture as one that can be opened, with all its values and its orientation (EXIF)."""
    exif = image.getexif()
    if image.mode not in PNG_MODES + TIFF_MODES:
        image = image.convert(RELATIVES.get(image.mode, "RGB"))
    stream = io.BytesIO()
    image.save(stream, "PNG" if image.mode in PNG_MODES else "TIFF", exif=exif)
    return PictureBytes(stream.getvalue(), place)


class PictureDigests:
    """SHA-256 of pictures' bytes, in hexadecimal; each picture is read once."""

    def __init__(self) -> None:
        self._known: dict[Picture, str] = {}

    def __getitem__(self, picture: Picture) -> str:
        """Of a picture that cannot be read that of nothing: it is judged when it is opened."""
        if picture not in self._known:
            try:
                with open_stream(picture) as stream:
                    data = stream.read()
            except OSError:
                data = b""
            self._known[picture] = hashlib.sha256(data).hexdigest()
        return self._known[picture]


def open_stream(picture: Picture) -> BinaryIO:
    """The encoded bytes as a file: that on the disk where there is one, so that a header can be read alone.

    Raises:
        OSError: it cannot be read, or is no plain file.
    """
    return open_plain(picture) if isinstance(picture, Path) else io.BytesIO(picture.read_bytes())
