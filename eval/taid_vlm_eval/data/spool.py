"""Long lists on disk: memory holds eight bytes for each entry, however large the entries are."""

import os
import pickle
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Generic, TypeVar, overload

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import FULL_ERRNO

T = TypeVar("T")
_BUFFER = 1 << 16  # bytes gathered before they are written


class Spool(Sequence[T], Generic[T]):
    """A list that can be appended to, in a file without a name, which is gone when the process ends, however it ends.

    An entry that is read is a copy. Threads may read at the same time. The file lies in the folder for temporary files
    (``TMPDIR``).
    """

    def __init__(self, entries: Iterable[T] = ()) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed when nobody refers to it)
        self._pending = bytearray()
        self._ends = array("q", [0])
        for entry in entries:
            self.append(entry)

    def append(self, entry: T) -> None:
        """Add to the end.

        Raises:
            UserError: the disk is full.
        """
        raw = pickle.dumps(entry, protocol=5)
        self._pending += raw
        self._ends.append(self._ends[-1] + len(raw))
        if len(self._pending) >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._pending:
                written = self._file.write(self._pending)
                del self._pending[:written]
        except OSError as error:
            if error.errno not in FULL_ERRNO:
                raise
            raise UserError(
                f"no space left in {tempfile.gettempdir()}, where lists that are too long for memory go; "
                f"free some, or let TMPDIR name another folder"
            ) from error

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return self._read(self._ends[place], self._ends[place + 1])[0]

    def __iter__(self) -> Iterator[T]:
        start, count = 0, len(self)
        while start < count:
            stop = start + 1
            while stop < count and self._ends[stop + 1] - self._ends[start] < _BUFFER:
                stop += 1
            yield from self._read(*self._ends[start : stop + 1])
            start = stop

    def _read(self, *ends: int) -> list[T]:
        if self._pending:
            self._flush()
        raw = memoryview(os.pread(self._file.fileno(), ends[-1] - ends[0], ends[0]))
        return [pickle.loads(raw[a - ends[0] : b - ends[0]]) for a, b in pairwise(ends)]
