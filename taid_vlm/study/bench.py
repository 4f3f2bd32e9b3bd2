"""One run after the other in one process, which keeps what they share: features of pictures, and the teacher's view of the held-out samples."""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm.common.versions import versions
from taid_vlm.data import Pairer, Record, read_records
from taid_vlm.models.saved import load_student
from taid_vlm.models.student import Student
from taid_vlm.models.teacher import Teacher
from taid_vlm.recipe import Recipe, dump_recipe
from taid_vlm.recipe.data_spec import DataSource
from taid_vlm.study.answers import greedy_answers, overlap, questions_of
from taid_vlm.study.measure import Held, Measured, hold, measure, measure_teacher
from taid_vlm.study.plan import Job
from taid_vlm.study.prepare import made_of
from taid_vlm.study.records import Record as Finished
from taid_vlm.study.records import teacher_record
from taid_vlm.training import train
from taid_vlm.training.features import FeatureStore
from taid_vlm.training.teachers import open_teacher

SPLITS = {"a": ("validation", "test", "blank"), "b": ("validation", "test")}
BROKE_DOWN = "the loss or its gradient was not finite"
CLOCK_POINTS = 40
PRECISION = "bf16"  # of the hidden states of held-out samples, as in the recipes; fp32 from the heads on


@dataclass
class Exam:
    """The held-out samples of a pair, with one teacher's view of them."""

    held: dict[str, Held]
    fingerprint: str
    pad_id: int
    questions: dict[str, list[str]]
    teacher_answers: list[str]


@dataclass
class Bench:
    """What the runs of a process share.

    Attributes:
        folder: of the run at hand; nothing stays in it.
        say: told what goes on.
    """

    folder: Path
    say: Callable[[str], None]
    store: FeatureStore | None = None
    exams: dict[str, Exam] = field(default_factory=dict)

    def run(self, job: Job) -> Finished:
        """Train a student and measure it; a run that was stopped goes on."""
        recipe = job.recipe()
        run_dir = self.folder / job.key.replace("/", "-")
        _clear_other(run_dir, recipe)
        exam = self.exam(job.setting.pair, recipe)
        figures: dict[str, dict[str, float]] = {}
        items: dict[str, dict[str, Any]] = {}
        failed = ""
        try:
            student = train(recipe, run_dir, store=self.store)
        except UserError as error:
            if BROKE_DOWN not in str(error):
                raise
            failed = str(error).split(";")[0]
        else:
            figures, items = self.examine(student, exam, job.setting.pair)
        steps = _rows(run_dir / "metrics.jsonl", "loss")
        record = Finished(
            job.key,
            job.setting.name,
            job.method,
            job.seed,
            float(recipe.training.lr),
            job.digest(),
            made_of(recipe, exam.fingerprint),
            figures,
            items,
            _some([row["t"] for row in steps if "t" in row]) if recipe.loss.name == "taid" else [],
            round(_seconds(run_dir), 3),
            failed,
            hardware(),
            versions(),
        )
        shutil.rmtree(run_dir)
        return record

    def teacher(self, job: Job) -> Finished:
        """What the job's teacher has on the same samples."""
        exam = self.exam(job.setting.pair, job.recipe())
        measured = {name: measure_teacher(held, exam.pad_id) for name, held in exam.held.items()}
        figures = {name: _rounded(one.figures()) for name, one in measured.items()}
        if exam.questions:
            figures["test"]["rouge_l"] = round(overlap(exam.teacher_answers, list(exam.questions.values())), 6)
        return teacher_record(exam.fingerprint, figures, _items(measured, job.setting.pair))

    def exam(self, pair: str, recipe: Recipe) -> Exam:
        """The held-out samples of a pair, asked of the recipe's teacher once."""
        assert recipe.teacher is not None
        key = json.dumps([pair, recipe.teacher.model_dump(mode="json", exclude={"cache"})])
        if key not in self.exams:
            self.say("asking the teacher about the held-out samples")
            self.exams[key] = self._exam(pair, recipe)
        return self.exams[key]

    def examine(
        self, folder: Path, exam: Exam, pair: str
    ) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Any]]]:
        """Figures and items of a saved student, by split."""
        loaded = load_student(folder)
        measured = {n: measure(loaded.student, loaded.processor, held, PRECISION) for n, held in exam.held.items()}
        figures = {name: _rounded(one.figures()) for name, one in measured.items()}
        if pair == "b":
            written = greedy_answers(loaded.student, loaded.processor, list(exam.questions))
            figures["test"] |= _rounded(
                {
                    "rouge_l": overlap(written, list(exam.questions.values())),
                    "rouge_l_teacher": overlap(written, exam.teacher_answers),
                }
            )
        return figures, _items(measured, pair)

    def _exam(self, pair: str, recipe: Recipe) -> Exam:
        teacher = open_teacher(recipe, cached=False)
        parts = {split: read_records([_source(recipe, split)], 0) for split in SPLITS[pair]}
        if pair == "a":
            self._encode(recipe, teacher, [record for part in parts.values() for record in part])
        pairer = Pairer.of(recipe.data, teacher.processor, teacher.processor)
        held = {n: _held(part, pairer, teacher, self.store) for n, part in parts.items()}
        questions: dict[str, list[str]] = questions_of(parts["test"]) if pair == "b" else {}
        answers = []
        if pair == "b":
            assert isinstance(teacher.model, Student)
            answers = _kept(
                f"answers-{teacher.fingerprint[:16]}-{_digest(parts['test'])}.json",
                lambda: greedy_answers(teacher.model, teacher.processor, list(questions)),  # type: ignore[arg-type]
            )
        pad_id = teacher.processor.tokenizer.eos_token_id
        return Exam(held, teacher.fingerprint, pad_id, questions, answers)

    def _encode(self, recipe: Recipe, teacher: Teacher, records: list[Record]) -> None:
        assert recipe.student.vision_encoder is not None
        assert teacher.vision_encoder is not None
        if self.store is None:
            self.store = FeatureStore(recipe.student.vision_encoder, recipe.student.images)
        self.store.add(teacher.vision_encoder, [p for r in records for p in r.images], skip_bad=False)


def _items(measured: dict[str, Measured], pair: str) -> dict[str, dict[str, Any]]:
    """What a comparison over items needs, of all splits but that of tuning: which answers are right, or at how many tokens the teacher agrees."""
    return {name: _each(one, pair) for name, one in measured.items() if name != "validation"}


def _each(measured: Measured, pair: str) -> dict[str, Any]:
    if pair == "a":
        return {"right": "".join("01"[int(one)] for one in measured.right)}
    return {"agreed": [int(one) for one in measured.agreed], "tokens": [int(one) for one in measured.tokens]}


def hardware() -> dict[str, Any]:
    """What computes: the processor, and how many of its cores."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    if torch.cuda.is_available():
        return {"device": torch.cuda.get_device_name(0), "processor": name}
    return {"device": "cpu", "processor": name, "threads": torch.get_num_threads()}


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.is_file() else []


def _held(records: list[Record], pairer: Pairer, teacher: Teacher, store: FeatureStore | None) -> Held:
    file = cache_folder() / "study" / "held" / f"{teacher.fingerprint[:16]}-{PRECISION}-{_digest(records)}.pt"
    states = torch.load(file, weights_only=True) if file.is_file() else None
    held = hold(records, pairer, teacher, store, PRECISION, states)
    if states is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        try:
            torch.save(held.states, temporary)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    return held


def _kept(name: str, make: Callable[[], list[str]]) -> list[str]:
    file = cache_folder() / "study" / "held" / name
    if not file.is_file():
        write_atomic(file, json.dumps(make()))
    found: list[str] = json.loads(file.read_text())
    return found


def _source(recipe: Recipe, split: str) -> DataSource:
    """The held-out samples beside the ones that every setting of the pair is trained on."""
    name = "charts-1" if recipe.student.vision_encoder is not None else "words-1"
    return DataSource(kind="jsonl", path=f"cache:study/{name}", split=split)


def _digest(records: list[Record]) -> str:
    said = [[record.text_digest(), *(Path(str(one)).name for one in record.images)] for record in records]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _clear_other(run_dir: Path, recipe: Recipe) -> None:
    """A stopped run of another recipe stood in the way of this one."""
    about = run_dir / "run.json"
    if run_dir.is_dir() and not (about.is_file() and json.loads(about.read_text())["recipe"] == dump_recipe(recipe)):
        shutil.rmtree(run_dir)


def _rows(file: Path, name: str) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row for row in rows if name in row]


def _seconds(run_dir: Path) -> float:
    """Of all steps, as if each had taken as long as the middle one: other work on the machine counts less."""
    spent = [row["seconds"] for row in _rows(run_dir / "timing.jsonl", "seconds")]
    return median(spent) * len(spent)


def _some(values: list[float]) -> list[float]:
    count = min(CLOCK_POINTS, len(values))
    return [round(values[round(i * (len(values) - 1) / max(1, count - 1))], 4) for i in range(count)]


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in figures.items()}
