"""Answers as they stand in a file: a header line, then one JSON line for each answer, appended as they come.

It is all a killed run needs to go on. Scores are not in it: they are made from it at the end, so that a mistake in a
scorer never costs an answer.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

FORMAT = 1
SERVER = "server"
_BLOCK, _SHORT = 1 << 16, 1 << 10
_UNFINISHED = b"\0"  # what a file holds where nothing was written yet


class _Answer(TypedDict):
    id: str
    answer: str
    error: str | None


class Answer(_Answer, total=False):
    """``answer`` is "" where ``error`` says why there is none.

    ``kind`` is there for errors that may be gone another time, and says what they are of: ``server``. Such an item is asked
    again when the run is started again.
    """

    kind: str


def is_final(answer: Answer) -> bool:
    """Whether asking again would be no use."""
    return "kind" not in answer


def scan(handle: int, start: int) -> Iterator[tuple[int, int, dict[str, Any] | None]]:
    """The complete lines of an open file from a place on: where each begins and ends, and the object on it, None when it is unsound.

    What :func:`append_lines` has not finished does not count. Nothing is kept between two calls, since other processes may write to
    the file and cut it.
    """
    rest, place = b"", start
    while block := os.pread(handle, _BLOCK, place):
        place += len(block)
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if line.startswith(_UNFINISHED):
                return
            yield start, (start := start + len(line) + 1), parse(line)


def append_lines(handle: int, lines: bytes, end: int) -> None:
    """Write lines at the end of an open file so that they count all at once: their first byte is written last.

    Who is killed in between leaves what :func:`scan` passes over, and a batch of answers never counts in part.
    """
    for place, part in ((1, lines[1:]), (0, lines[:1])):
        while part:
            written = os.pwrite(handle, part, end + place)
            part, place = part[written:], place + written


def read_line(handle: int, start: int) -> bytes:
    """The line that begins at a place of an open file, without its end; what there is of it when it has none."""
    line, found = b"", -1
    while found < 0 and (block := os.pread(handle, _SHORT, start + len(line))):
        line += block
        found = line.find(b"\n", len(line) - len(block))
    return line[:found] if found >= 0 else line


def parse(line: bytes) -> dict[str, Any] | None:
    """The object on a line; None when it is none."""
    try:
        row = json.loads(line)
    except ValueError:  # also broken UTF-8
        return None
    return row if isinstance(row, dict) else None


def as_header(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the first line says, None when it is not of this format."""
    if row is None or row.get("format") != FORMAT or not isinstance(row.get("header"), dict):
        return None
    header: dict[str, Any] = row["header"]
    return header


def as_answer(row: dict[str, Any] | None) -> Answer | None:
    """A row as an answer, None when it is none."""
    if row is None or not {"id", "answer", "error"} <= set(row) <= {"id", "answer", "error", "kind"}:
        return None
    texts = (row["id"], row["answer"], row.get("kind", ""))
    if not (all(isinstance(text, str) for text in texts) and isinstance(row["error"], str | None)):
        return None
    answer = Answer(id=row["id"], answer=row["answer"], error=row["error"])
    if "kind" in row:
        answer["kind"] = row["kind"]
    return answer


def read_answers(path: Path) -> tuple[dict[str, Any] | None, dict[str, Answer], int]:
    """The header, the answers by id, and the length in bytes of what is sound.

    A line without its end, or one that is not what this module writes, was cut short by a kill or a crash of the
    machine: it and what follows do not count. The header is None when it is unsound itself. Of several answers to one item
    the first final one holds, or else the last.
    """
    header: dict[str, Any] | None = None
    answers: dict[str, Answer] = {}
    sound = 0
    if not path.is_file():
        return header, answers, sound
    with path.open("rb") as file:
        for _, end, row in scan(file.fileno(), 0):
            if header is None:
                if (header := as_header(row)) is None:
                    break
            elif (answer := as_answer(row)) is None:
                break
            elif answer["id"] not in answers or not is_final(answers[answer["id"]]):
                answers[answer["id"]] = answer
            sound = end
    return header, answers, sound


def line_of(row: Any) -> bytes:
    """A row as a line. Readable UTF-8; a lone surrogate, which has no UTF-8, becomes the JSON escape that reads back as itself."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", errors="backslashreplace") + b"\n"
