"""The answers file of a task, which any number of processes fill at the same time."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import disk_errors
from taid_vlm_eval.answers import Answer, append_lines, as_answer, line_of, parse, read_line, scan
from taid_vlm_eval.answers_index import AnswersIndex
from taid_vlm_eval.answers_opening import difference, header_of, make_folder, new_name, open_locks, start_anew
from taid_vlm_eval.arrays import Flags
from taid_vlm_eval.locks import is_in_place
from taid_vlm_eval.marks import Places

_WRITING, _PRESENT, _CLAIMS = 0, 1, 2  # the locks: one writes at a time, all who are here, and one for each claim


class AnswersFile(Mapping[str, Answer]):
    """Answers by id. A context manager.

    Several processes may have the file open, on one machine or on several that share the folder. Each sees what the others
    appended (:meth:`refresh`), and claims are seen by all (:meth:`claim`); what a dead process had claimed is free. The last
    one to leave a complete file puts its lines in the order of the items.

    Args:
        path: the file. When its header is not ``header``, it is moved aside to the same name with ".old" behind, and a new
            one is started. An earlier ".old" is replaced.
        header: everything that decides the answers, as JSON values.
        ids: of the items, in their order.

    Attributes:
        set_aside: one sentence on an older file that was moved away; "" when there was none.

    Raises:
        UserError: the folder cannot be made or written to; another process is filling the file with answers of another header.
    """

    def __init__(self, path: Path, header: dict[str, Any], ids: Places) -> None:
        self.path, self.set_aside = path, ""
        self._index, self._unwanted = AnswersIndex(ids), False
        make_folder(path.parent)
        with disk_errors("answers", path.parent):
            self._locks = open_locks(path.with_name(f".{path.name}.lock"), _WRITING)
            try:
                self._join(json.loads(json.dumps(header)))  # tuples and lists compare equal
            except BaseException:
                self._locks.close()
                raise

    def _join(self, header: dict[str, Any]) -> None:
        """With the lock for writing taken."""
        found = header_of(self.path)
        if found != header:
            if not self._locks.take(_PRESENT):
                raise UserError(
                    f"another process is evaluating into {self.path}, which {difference(found, header)}; wait until it is done, "
                    f"or choose another output"
                )
            self.set_aside = start_anew(self.path, header)
        self._locks.wait(_PRESENT, exclusive=False)
        self._handle = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._end = len(read_line(self._handle, 0)) + 1
        self._read_on()  # as far as it is sound
        os.truncate(self._handle, self._end)
        self._index.ask_again()  # errors of before may be gone
        self._locks.release(_WRITING)

    def _read_on(self) -> int | None:
        """Take notice of further lines; where one begins that is unsound, None when there is none."""
        for start, end, row in scan(self._handle, self._end):
            if (answer := as_answer(row)) is None:
                return start
            self._index.note(answer, start)
            self._end = end
        return None

    @property
    def shared(self) -> bool:
        """Whether other processes can take part, which needs a file system with locks."""
        return self._locks.shared

    @property
    def lacking(self) -> Flags:
        """Which items have no answer, or one that is not final from before this file was opened here, [N]."""
        return self._index.lacking

    @property
    def errors(self) -> int:
        """How many of the answers say why there is none."""
        return self._index.errors

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
        if size > self._end and (place := self._read_on()) is not None:
            raise UserError(f"{self.path} was changed by something else at byte {place}; start the same command again")

    def append(self, answers: Iterable[Answer]) -> None:
        """Write answers, but for items that have a final one, and hand them to the system before returning: all of them, or none.

        Raises:
            UserError: no space, or the file was removed or changed since.
        """
        with disk_errors("answers", self.path.parent):
            self._locks.wait(_WRITING)
            try:
                if not is_in_place(self.path, self._handle):
                    raise UserError(f"{self.path} was removed while answers came; start the same command again")
                self.refresh()
                # What is left behind the last whole line is of a process that died while it wrote.
                os.truncate(self._handle, self._end)
                lines = [line_of(one) for one in _first_ones(answers) if not self._index.has_final(one["id"])]
                append_lines(self._handle, b"".join(lines), self._end)
                self.refresh()
            finally:
                self._locks.release(_WRITING)

    def claim(self, work: range) -> bool:
        """Take a stretch of the work, numbers from 0; False when another process has any of it."""
        return self._locks.take(_CLAIMS + work.start, len(work))

    def release(self, work: range) -> None:
        """Give back a stretch of the work, done or not."""
        self._locks.release(_CLAIMS + work.start, len(work))

    def __getitem__(self, one: str) -> Answer:
        start = self._index.start_of(one)
        if start is None:
            raise KeyError(one)
        answer = as_answer(parse(read_line(self._handle, start)))
        if answer is None or answer["id"] != one:
            raise UserError(f"{self.path} was changed by something else; start the same command again")
        return answer

    def __contains__(self, one: object) -> bool:
        return isinstance(one, str) and self._index.start_of(one) is not None

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        for line in self._lines_in_order():
            yield json.loads(line)["id"]

    def _lines_in_order(self) -> Iterator[bytes]:
        for start in self._index.starts():
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
                if is_in_place(self.path, self._handle):
                    self._finish()
                self._locks.remove()
        finally:
            os.close(self._handle)
            self._locks.close()

    def _finish(self) -> None:
        self.refresh()  # the last answers may be of one that left just before
        if self._index.is_complete and not self._index.is_in_order:
            self._put_in_order()
        elif self._unwanted and not self._index.lines:
            self.path.unlink()
        new_name(self.path).unlink(missing_ok=True)

    def _put_in_order(self) -> None:
        """One line for each item, in the order of the items, as one process alone would have written it."""
        with disk_errors("answers", self.path.parent):
            with open(new := new_name(self.path), "wb") as file:
                file.write(read_line(self._handle, 0) + b"\n")
                file.writelines(self._lines_in_order())
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.path)

    def __enter__(self) -> "AnswersFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _first_ones(answers: Iterable[Answer]) -> list[Answer]:
    """Of several answers to one item the first."""
    kept: dict[str, Answer] = {}
    for answer in answers:
        kept.setdefault(answer["id"], answer)
    return list(kept.values())
