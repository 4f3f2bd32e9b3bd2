"""The answers of an evaluation that is over, by id, with the texts left in their file."""

import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from taid_vlm_eval.answers import Answer, as_answer, as_header, is_final, parse, read_line, scan
from taid_vlm_eval.marks import Places

_NONE = -1


class KeptAnswers(Mapping[str, Answer]):
    """What :func:`taid_vlm_eval.answers.read_answers` finds in a file, of the items wanted; memory holds nine bytes for each of them.

    Args:
        path: of the file, which nobody changes meanwhile.
        ids: of the items, in their order.

    Attributes:
        header: what the file says it was made with; None where there is no sound file.
    """

    def __init__(self, path: Path, ids: Places) -> None:
        self._ids = ids
        self.header: dict[str, Any] | None = None
        self._starts = np.full(len(ids), _NONE, dtype=np.int64)
        self._final = np.zeros(len(ids), dtype=bool)
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
                self._note(answer, start)

    def _note(self, answer: Answer, start: int) -> None:
        place = self._ids.find(answer["id"])
        if place is not None and not self._final[place]:
            self._starts[place], self._final[place] = start, is_final(answer)

    def __getitem__(self, one: str) -> Answer:
        place = self._ids.find(one)
        if place is None or self._starts[place] == _NONE:
            raise KeyError(one)
        answer = as_answer(parse(read_line(self._handle, int(self._starts[place]))))
        if answer is None or answer["id"] != one:
            raise KeyError(one)
        return answer

    def __contains__(self, one: object) -> bool:
        place = self._ids.find(one) if isinstance(one, str) else None
        return place is not None and bool(self._starts[place] != _NONE)

    def __len__(self) -> int:
        return int((self._starts != _NONE).sum())

    def __iter__(self) -> Iterator[str]:
        for start in self._starts[self._starts != _NONE].tolist():
            if (answer := as_answer(parse(read_line(self._handle, start)))) is not None:
                yield answer["id"]
