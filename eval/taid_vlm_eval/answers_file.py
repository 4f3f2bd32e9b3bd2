"""The answers file of a task, which any number of processes fill at the same time."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import disk_errors
from taid_vlm_eval.answers import FORMAT, Answer, as_answer, as_header, is_final, line_of, parse, read_line, scan
from taid_vlm_eval.locks import SharedLocks
from taid_vlm_eval.marks import Places

_WRITING, _PRESENT, _CLAIMS = 0, 1, 2  # the locks: one writes at a time, all who are here, and one for each claim
_NONE = -1


class AnswersFile(Mapping[str, Answer]):
    """Answers by id. A context manager. Memory holds nine bytes for each item; texts stay in the file.

    Several processes may have the file open, on one machine or on several that share the folder. Each sees what the others
    appended (:meth:`refresh`), and claims are seen by all (:meth:`claim`); what a dead process had claimed is free. The last
    one to leave a complete file puts its lines in the order of the items.

    Args:
        path: the file. When its header is not ``header``, it is moved aside to the same name with ".old" behind, and a new
            one is started. An earlier ".old" is replaced.
        header: everything that decides the answers, as JSON values.
        ids: of the items, in their order.

    Attributes:
        lacking: which items have no answer, or one that is not final from before this file was opened here, [N].
        errors: how many of the answers say why there is none.
        set_aside: one sentence on an older file that was moved away; "" when there was none.

    Raises:
        UserError: the folder cannot be made or written to; another process is filling the file with answers of another header.
    """

    def __init__(self, path: Path, header: dict[str, Any], ids: Places) -> None:
        self.path, self.set_aside, self.errors = path, "", 0
        self._ids, self._lines, self._unwanted = ids, 0, False
        self.lacking = np.ones(len(ids), dtype=bool)
        self._starts = np.full(len(ids), _NONE, dtype=np.int64)
        self._final = np.zeros(len(ids), dtype=bool)
        self._failed = np.zeros(len(ids), dtype=bool)
        _make_folder(path.parent)
        with disk_errors("answers", path.parent):
            self._locks = _open_locks(path.with_name(f".{path.name}.lock"))
            try:
                self._join(json.loads(json.dumps(header)))  # tuples and lists compare equal
            except BaseException:
                self._locks.close()
                raise

    def _join(self, header: dict[str, Any]) -> None:
        """With the lock for writing taken."""
        found = _header_of(self.path)
        if found != header:
            self._start_anew(found, header)
        self._locks.wait(_PRESENT, exclusive=False)
        self._handle = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._end = len(read_line(self._handle, 0)) + 1
        for start, end, row in scan(self._handle, self._end):
            if (answer := as_answer(row)) is None:
                break
            self._note(answer, start, end)
        os.truncate(self._handle, self._end)
        self.lacking = ~self._final  # errors of before may be gone
        self._locks.release(_WRITING)

    def _start_anew(self, found: dict[str, Any] | None, wanted: dict[str, Any]) -> None:
        if not self._locks.take(_PRESENT):
            raise UserError(
                f"another process is evaluating into {self.path}, which {_difference(found, wanted)}; wait until it is done, "
                f"or choose another output"
            )
        if self.path.is_file() and self.path.stat().st_size > 0:
            self.path.replace(old := self.path.with_name(self.path.name + ".old"))
            self.set_aside = (
                f"{self.path} {_difference(found, wanted)}; it is now {old.name}, and every item is asked again"
            )
        self.path.write_bytes(line_of({"format": FORMAT, "header": wanted}))

    def _note(self, answer: Answer, start: int, end: int) -> None:
        self._lines, self._end = self._lines + 1, end
        place = self._ids.find(answer["id"])
        if place is None or self._final[place]:
            return  # the first final answer holds
        self.errors += (answer["error"] is not None) - int(self._failed[place])
        self._starts[place] = start
        self._final[place], self._failed[place] = is_final(answer), answer["error"] is not None
        self.lacking[place] = False

    @property
    def shared(self) -> bool:
        """Whether other processes can take part, which needs a file system with locks."""
        return self._locks.shared

    @property
    def answered(self) -> int:
        """How many items have an answer that is no error."""
        return len(self) - self.errors

    def refresh(self) -> None:
        """Take notice of what other processes appended.

        Raises:
            UserError: something else wrote into the file.
        """
        size = os.fstat(self._handle).st_size
        if size < self._end:
            raise UserError(f"{self.path} was cut short by something else; start the same command again")
        for start, end, row in scan(self._handle, self._end) if size > self._end else ():
            if (answer := as_answer(row)) is None:
                raise UserError(
                    f"{self.path} was changed by something else at byte {start}; start the same command again"
                )
            self._note(answer, start, end)

    def append(self, answers: Iterable[Answer]) -> None:
        """Write answers, but for items that have a final one, and hand them to the system before returning.

        Raises:
            UserError: no space, or the file was removed or changed since.
        """
        with disk_errors("answers", self.path.parent):
            self._locks.wait(_WRITING)
            try:
                if not self._is_in_place():
                    raise UserError(f"{self.path} was removed while answers came; start the same command again")
                self.refresh()
                # What is left behind the last whole line is of a process that died while it wrote.
                os.truncate(self._handle, self._end)
                lines = [line_of(one) for one in _first_ones(answers) if not self._has_final(one["id"])]
                _write(self._handle, b"".join(lines), self._end)
                self.refresh()
            finally:
                self._locks.release(_WRITING)

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._handle))
        except FileNotFoundError:
            return False

    def _has_final(self, one: str) -> bool:
        place = self._ids.find(one)
        return place is not None and bool(self._final[place])

    def had_faults(self, places: np.ndarray) -> bool:
        """Whether any of these items has an error that may be gone."""
        return bool((self._failed[places] & ~self._final[places]).any())

    def claim(self, number: int) -> bool:
        """Take a piece of the work, any number from 0; False when another process has it."""
        return self._locks.take(_CLAIMS + number)

    def release(self, number: int) -> None:
        """Give back a piece of the work, done or not."""
        self._locks.release(_CLAIMS + number)

    def __getitem__(self, one: str) -> Answer:
        if one not in self:
            raise KeyError(one)
        answer = as_answer(parse(read_line(self._handle, int(self._starts[self._ids.find(one)]))))
        if answer is None or answer["id"] != one:
            raise UserError(f"{self.path} was changed by something else; start the same command again")
        return answer

    def __contains__(self, one: object) -> bool:
        place = self._ids.find(one) if isinstance(one, str) else None
        return place is not None and bool(self._starts[place] != _NONE)

    def __len__(self) -> int:
        return int((self._starts != _NONE).sum())

    def __iter__(self) -> Iterator[str]:
        for line in self._lines_in_order():
            yield json.loads(line)["id"]

    def _lines_in_order(self) -> Iterator[bytes]:
        for start in self._starts[self._starts != _NONE]:
            yield read_line(self._handle, int(start)) + b"\n"

    def remove_if_empty(self) -> None:
        """Let no file without answers be left by :meth:`close`, but for others who are still here."""
        self._unwanted = True

    def close(self) -> None:
        """Leave the file to others."""
        try:
            self._locks.wait(_WRITING)
            # A lock that is shared becomes exclusive where nobody else has it.
            if self._locks.take(_PRESENT):
                if self._is_in_place():
                    self._finish()
                self._locks.remove()
        finally:
            os.close(self._handle)
            self._locks.close()

    def _finish(self) -> None:
        self.refresh()  # the last answers may be of one that left just before
        if len(self) == len(self._ids):
            self._put_in_order()
        elif self._unwanted and not self._lines:
            self.path.unlink()

    def _put_in_order(self) -> None:
        """One line for each item, in the order of the items, as one process alone would have written it."""
        if self._lines == len(self._ids) and bool((np.diff(self._starts) > 0).all()):
            return
        with disk_errors("answers", self.path.parent):
            # Nobody else is here, so the name is free; what a process left under it that died here is overwritten.
            with open(new := self.path.with_name(f".{self.path.name}.new"), "wb") as file:
                file.write(read_line(self._handle, 0) + b"\n")
                file.writelines(self._lines_in_order())
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.path)

    def __enter__(self) -> "AnswersFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self.close()
        return False


def _first_ones(answers: Iterable[Answer]) -> list[Answer]:
    """Of several answers to one item the first."""
    kept: dict[str, Answer] = {}
    for answer in answers:
        kept.setdefault(answer["id"], answer)
    return list(kept.values())


def _write(handle: int, lines: bytes, place: int) -> None:
    while lines:
        written = os.pwrite(handle, lines, place)
        lines, place = lines[written:], place + written


def _make_folder(folder: Path) -> None:
    with disk_errors("answers", folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise UserError(f"{folder} is a file; answers and results need a folder, choose another output") from error


def _open_locks(path: Path) -> SharedLocks:
    """The locks, with that for writing taken."""
    while True:
        locks = SharedLocks(path)
        try:
            locks.wait(_WRITING)
            if locks.is_current():
                return locks
        except BaseException:  # stopped by hand, say, while another process writes
            locks.close()
            raise
        locks.close()


def _header_of(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        first = next(scan(file.fileno(), 0), None)
    return None if first is None else as_header(first[2])


def _difference(found: dict[str, Any] | None, wanted: dict[str, Any]) -> str:
    if found is None:
        return "is not an answers file of this version"
    keys = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    return f"was made with another {', '.join(keys)}"
