"""The answers of an evaluation that is over, by id, with the texts left in their file."""

import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from taid_vlm_eval.answers import Answer, as_answer, as_header, parse, read_line, scan
from taid_vlm_eval.answers_index import AnswersIndex
from taid_vlm_eval.marks import Places


class KeptAnswers(Mapping[str, Answer]):
    """What :func:`taid_vlm_eval.answers.read_answers` finds in a file, of the items wanted.

    Args:
        path: of the file, which nobody changes meanwhile.
        ids: of the items, in their order.

    Attributes:
        header: what the file says it was made with; None where there is no sound file.
    """

    def __init__(self, path: Path, ids: Places) -> None:
        self._index = AnswersIndex(ids)
        self.header: dict[str, Any] | None = None
        if not path.is_file():
            return
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._handle)
        for start, _, row in scan(self._handle, 0):
            if self.header is None:
                if (header := as_header(row)) is None:
                    break
                self.header = header
            elif (answer := as_answer(row)) is None:
                break  # cut short by a kill
            else:
                self._index.note(answer, start)

    def __getitem__(self, one: str) -> Answer:
        start = self._index.start_of(one)
        answer = None if start is None else as_answer(parse(read_line(self._handle, start)))
        if answer is None or answer["id"] != one:
            raise KeyError(one)
        return answer

    def __contains__(self, one: object) -> bool:
        return isinstance(one, str) and self._index.start_of(one) is not None

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        for start in self._index.starts().tolist():
            if (answer := as_answer(parse(read_line(self._handle, start)))) is not None:
                yield answer["id"]
