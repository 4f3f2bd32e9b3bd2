"""The answers file: a header line, then one JSON line per item, appended as answers come.

It is all a killed run needs to go on. Scores are not in it: they are made from it at the end, so that a mistake in a
scorer never costs an answer.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, TypedDict

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import disk_errors

FORMAT = 1


class Answer(TypedDict):
    """``answer`` is "" where ``error`` says why there is none."""

    id: str
    answer: str
    error: str | None


def read_answers(path: Path) -> tuple[dict[str, Any] | None, dict[str, Answer], int]:
    """The header, the answers by id, and the length in bytes of what is sound.

    A line without its end, or one that is not what this module writes, was cut short by a kill or a crash of the
    machine: it and what follows do not count. The header is None when it is unsound itself.
    """
    raw = path.read_bytes() if path.is_file() else b""
    header: dict[str, Any] | None = None
    answers: dict[str, Answer] = {}
    sound = 0
    for line in raw.splitlines(keepends=True):
        row = _parse(line)
        if header is None:
            if row is None or row.get("format") != FORMAT or not isinstance(row.get("header"), dict):
                break
            header = row["header"]
        else:
            if row is None or not _is_answer(row):
                break
            answers.setdefault(row["id"], Answer(id=row["id"], answer=row["answer"], error=row["error"]))
        sound += len(line)
    return header, answers, sound


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:  # also broken UTF-8
        return None
    return row if isinstance(row, dict) else None


def _is_answer(row: dict[str, Any]) -> bool:
    if set(row) != {"id", "answer", "error"}:
        return False
    return isinstance(row["id"], str) and isinstance(row["answer"], str) and isinstance(row["error"], str | None)


def _line(row: Any) -> bytes:
    # Readable UTF-8; a lone surrogate, which has no UTF-8, becomes the JSON escape that reads back as itself.
    return json.dumps(row, ensure_ascii=False).encode("utf-8", errors="backslashreplace") + b"\n"


def _make_folder(folder: Path) -> None:
    with disk_errors("answers", folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise UserError(f"{folder} is a file; answers and results need a folder, choose another output") from error


def _difference(found: dict[str, Any] | None, wanted: dict[str, Any]) -> str:
    if found is None:
        return "is not an answers file of this version"
    keys = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    return f"was made with another {', '.join(keys)}"


class AnswersFile:
    """Open for appending; a context manager.

    Args:
        path: the file. When its header is not ``header``, it is moved aside to the same name with ".old" behind, and a new
            one is started. An earlier ".old" is replaced.
        header: everything that decides the answers, as JSON values.

    Attributes:
        done: the answers so far, by item id.
        set_aside: one sentence on an older file that was moved away; "" when there was none.

    Raises:
        UserError: the folder cannot be made or written to.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.done: dict[str, Answer] = {}
        self.set_aside = ""
        _make_folder(path.parent)
        found, answers, sound = read_answers(path)
        # Through JSON, so that tuples and lists compare equal.
        wanted = json.loads(json.dumps(header))
        same = found == wanted
        with disk_errors("answers", path.parent):
            if not same and path.is_file() and path.stat().st_size > 0:
                path.replace(old := path.with_name(path.name + ".old"))
                self.set_aside = (
                    f"{path} {_difference(found, wanted)}; it is now {old.name}, and every item is asked again"
                )
            self._file: IO[bytes] = open(path, "ab")  # noqa: SIM115 (closed by __exit__)
            if same:
                self._file.truncate(sound)
                self.done = answers
            else:
                self._write(_line({"format": FORMAT, "header": header}))

    def append(self, answers: Iterable[Answer]) -> None:
        """Write those items that have no answer yet, and hand them to the system before returning."""
        lines = b""
        for answer in answers:
            if answer["id"] not in self.done:
                self.done[answer["id"]] = answer
                lines += _line(answer)
        with disk_errors("answers", self.path.parent):
            self._write(lines)

    def _write(self, lines: bytes) -> None:
        self._file.write(lines)
        self._file.flush()

    def __enter__(self) -> "AnswersFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self._file.close()
        return False
