"""Finished runs, each as one small JSON file, and all of them as one file of lines that the page is made from.

A run is finished when there is a record of its key with the hash of its recipe: of another recipe it is another run.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm.study.plan import TUNING_SEED, Job

LINES = "records.jsonl"
TEACHER = "teacher"


@dataclass(frozen=True)
class Record:
    """What is kept of a run.

    Attributes:
        key, setting, method, seed, lr: see :class:`Job`.
        recipe: hash of its recipe.
        made_of: hashes of what it was made of beside the recipe: the teacher, and the student's start.
        figures: by split, by name.
        items: by split, of each held-out sample what the comparison needs.
        clock: t at some steps, from the first to the last; empty where there is no clock.
        seconds: of the training steps alone.
        failed: why there are no figures, where the training broke down.
        hardware, versions: what ran it.
    """

    key: str
    setting: str
    method: str
    seed: int
    lr: float
    recipe: str
    made_of: dict[str, str]
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    clock: list[float] = field(default_factory=list)
    seconds: float = 0.0
    failed: str = ""
    hardware: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def is_run(self) -> bool:
        """Whether something was trained for it; it is a teacher's otherwise."""
        return self.method != TEACHER

    @property
    def tuning(self) -> bool:
        """Whether it only tried a learning rate."""
        return self.seed == TUNING_SEED


class Records:
    """All records of some folders, read when it is made.

    Args:
        out: folder of the study's runs; records are written to ``<out>/records``.
        results: folder with ``records.jsonl`` of earlier runs, perhaps of other machines.
    """

    def __init__(self, out: Path, results: Path | None = None) -> None:
        self.folder = out / "records"
        self.all: dict[str, Record] = {}
        if results is not None and (results / LINES).is_file():
            self._take((results / LINES).read_text().splitlines(), results / LINES)
        for file in sorted(self.folder.rglob("*.json")):
            self._take([file.read_text()], file)

    def _take(self, lines: Iterable[str], file: Path) -> None:
        for line in lines:
            try:
                record = Record(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise UserError(f"{file} holds a line that is no record of the study ({error}); delete it") from error
            self.all[record.key] = record

    def of(self, job: Job) -> Record | None:
        """The record of a job, if it is finished."""
        found = self.all.get(job.key)
        return found if found is not None and job.lr == found.lr and found.recipe == job.digest() else None

    def teacher_of(self, record: Record) -> Record | None:
        """That of a run's teacher, if it was measured."""
        return self.all.get(f"{TEACHER}/{record.made_of['teacher']}")

    def add(self, record: Record) -> None:
        """Write it down."""
        self.all[record.key] = record
        write_atomic(self.folder / f"{record.key}.json", to_line(record) + "\n")

    def write_lines(self, results: Path) -> None:
        """All records in one file, a line each, in the order of their keys."""
        lines = [to_line(self.all[key]) for key in sorted(self.all)]
        write_atomic(results / LINES, "".join(f"{line}\n" for line in lines))


def teacher_record(fingerprint: str, figures: dict[str, dict[str, float]], items: dict[str, dict[str, Any]]) -> Record:
    """Of a teacher: measured as its students are, and not a run."""
    short = fingerprint[:16]
    return Record(f"{TEACHER}/{short}", "", TEACHER, 0, 0.0, "", {"teacher": short}, figures, items)


def to_line(record: Record) -> str:
    """One line of JSON."""
    return json.dumps(asdict(record), separators=(",", ":"), allow_nan=False)
