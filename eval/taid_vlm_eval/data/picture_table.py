"""The pictures of a list of items, numbered; what their files hold and how large they are is found out once for each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from taid_vlm.common.files import open_plain, sha256_of
from taid_vlm.common.picture_bounds import max_pixels, opened
from taid_vlm_eval.arrays import Integers
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.marks import mark_of, numbered

_UNREAD, _READ, _MISSING = range(3)
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class PictureTable:
    """Numbers in the order in which pictures come first. A picture is a file here: two files with equal bytes have two numbers.

    Attributes:
        starts: the pictures of item n are ``numbers[starts[n] : starts[n + 1]]``, [N + 1].
        numbers: [M].
    """

    def __init__(self, items: Sequence[Item]) -> None:
        marks = bytearray()
        counts_N = np.zeros(len(items) + 1, dtype=np.int64)
        for place, item in enumerate(items):
            counts_N[place + 1] = len(item.images)
            for path in item.images:
                marks += mark_of(str(path))
        self.starts = np.cumsum(counts_N)
        self.numbers, count = numbered(np.frombuffer(marks, dtype="V16"))
        self._digests = np.zeros((count, 32), dtype=np.uint8)
        self._state = np.zeros(count, dtype=np.uint8)

    def of(self, place: int) -> Integers:
        """The numbers of the pictures of the item at a place."""
        return self.numbers[self.starts[place] : self.starts[place + 1]]

    def digests(self, place: int, paths: Sequence[Path]) -> list[str]:
        """The SHA-256 of each file of an item in hexadecimal, "missing" of one that cannot be read."""
        return [self._digest(number, path) for number, path in zip(self.of(place), paths, strict=True)]

    def _digest(self, number: int, path: Path) -> str:
        if self._state[number] == _UNREAD:
            try:
                self._digests[number] = np.frombuffer(bytes.fromhex(sha256_of(path)), dtype=np.uint8)
                self._state[number] = _READ
            except OSError:
                self._state[number] = _MISSING
        return "missing" if self._state[number] == _MISSING else self._digests[number].tobytes().hex()

    def keys(self, place: int, paths: Sequence[Path]) -> tuple[str, ...]:
        """For a :class:`Request`: equal keys, equal files. Empty when a picture is missing."""
        found = self.digests(place, paths)
        return () if "missing" in found else tuple(found)

    def sizes(self, items: Sequence[Item]) -> Integers:
        """Width and height of each picture as it is shown, [U, 2], from the heads of the files; 0 of one that does not read."""
        sizes_U2 = np.full((len(self._state), 2), -1, dtype=np.int32)
        for place, item in enumerate(items):
            for number, path in zip(self.of(place), item.images, strict=True):
                if sizes_U2[number, 0] < 0:
                    sizes_U2[number] = size_of(path)
        return sizes_U2


def size_of(path: Path) -> tuple[int, int]:
    """Width and height after turning by EXIF, without decoding; (0, 0) when the file is none."""
    limit = max_pixels()
    try:
        with open_plain(path) as stream, opened(stream, limit) as image:
            # Of other kinds (PNG) Pillow would decode all of it to find the turn, and they hardly ever have one.
            turned = image.format in ("JPEG", "MPO") and image.getexif().get(0x0112) in _TURNED
            return (image.height, image.width) if turned else image.size
    except Exception:  # decoders raise many types; what is wrong is told when the item is asked
        return (0, 0)
