"""The folder of a run, read as it is: whole, half-written or of a run that is still going on."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from taid_vlm.common.errors import UserError

SILENT = (
    300  # seconds without a line after which an unfinished run is taken for stopped; and ten times its slowest step
)
BEST, LOW, HIGH = "evaluation_", "_low", "_high"


@dataclass(frozen=True)
class Run:
    """What a run's folder says.

    Attributes:
        name: unique among the runs of a page.
        steps, timing: rows of the training steps, in their order.
        validations: rows of held-out figures, without their prefix.
        evaluations: rows of scores on the way, such as ``{"step": 100, "vqa": 0.5, "vqa_low": 0.4, "vqa_high": 0.6}``.
        results: what ``evaluation/<task>.result.json`` states, by task.
        notes: what could not be read.
    """

    name: str
    folder: Path
    recipe: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    timing: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    trained: list[str] = field(default_factory=list)
    examples: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Optimizer steps that the recipe asks for."""
        steps = self.part("training").get("steps")
        return steps if isinstance(steps, int) else 0

    @property
    def done(self) -> int:
        """Optimizer steps that were taken."""
        return int(self.steps[-1]["step"]) if self.steps else 0

    @property
    def state(self) -> str:
        """``finished``, ``running``, ``stopped``, ``not started``, or ``unreadable`` where there is no student and no recipe."""
        if (self.folder / "student" / "student.json").is_file():
            return "finished"
        if not self.recipe:
            return "unreadable"
        if not self.steps:
            return "not started"
        slowest = max((row.get("seconds", 0.0) for row in self.timing[-50:]), default=0.0)
        return "running" if time.time() - self.changed < max(SILENT, 10 * slowest) else "stopped"

    @property
    def changed(self) -> float:
        """When the run last wrote something down, in seconds since 1970."""
        files = [self.folder / name for name in ("metrics.jsonl", "timing.jsonl", "run.json")]
        return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)

    def part(self, name: str) -> dict[str, Any]:
        """A mapping of the recipe; empty where it has none of that name."""
        found = self.recipe.get(name)
        return found if isinstance(found, dict) else {}


def read_run(folder: Path, name: str | None = None) -> Run:
    """Everything in the folder of a run that a person may want to see.

    Raises:
        UserError: it is not the folder of a run.
    """
    if not (folder / "run.json").is_file() and not (folder / "recipe.yaml").is_file():
        raise UserError(f"{folder} holds neither run.json nor recipe.yaml; expected the folder of a run")
    notes: list[str] = []
    about = _object(folder / "run.json", notes)
    rows = list(_rows(folder / "metrics.jsonl", notes))
    result_files = sorted((folder / "evaluation").glob("*.result.json"))
    results = {file.name.removesuffix(".result.json"): _object(file, notes) for file in result_files}
    return Run(
        name or folder.resolve().name,
        folder,
        _recipe(folder / "recipe.yaml", about, notes),
        about,
        [row for row in rows if isinstance(row.get("loss"), (int, float))],
        [row for row in _rows(folder / "timing.jsonl", notes) if isinstance(row.get("seconds"), (int, float))],
        [_without(row, "validation_") for row in rows if any(key.startswith("validation_") for key in row)],
        [_without(row, BEST) for row in rows if any(key.startswith(BEST) for key in row)],
        {task: one for task, one in results.items() if isinstance(one.get("value"), (int, float))},
        _lines(folder / "trained.txt"),
        _object(folder / "examples" / "examples.json", notes, needed=False),
        notes,
    )


def read_runs(folders: list[Path]) -> list[Run]:
    """Several runs; those of one name get that of the folder above before it.

    Raises:
        UserError: see :func:`read_run`; or one is given twice.
    """
    paths = [folder.expanduser().resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise UserError("a run is given twice; give each folder once")
    names, depth = [path.name for path in paths], 1
    while len(set(names)) < len(names):
        depth += 1
        names = ["/".join(path.parts[-depth:]) for path in paths]
    return [read_run(path, name) for path, name in zip(folders, names, strict=True)]


def _rows(file: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    """Objects of a file with one a line; a last line without its end is being written, and another broken one is told."""
    if not file.is_file():
        return
    broken = 0
    for line in file.read_bytes().split(b"\n")[:-1]:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row
        else:
            broken += bool(line.strip())
    if broken:
        notes.append(f"{file.name}: {broken} lines could not be read and were left out")


def _object(file: Path, notes: list[str], needed: bool = True) -> dict[str, Any]:
    if not file.is_file():
        if needed:
            notes.append(f"{file.name} is missing")
        return {}
    try:
        found = json.loads(file.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        notes.append(f"{file.name} could not be read")
        return {}
    return found


def _recipe(file: Path, about: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else str(about.get("recipe", ""))
        found = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if isinstance(found, dict):
        return found
    notes.append("the recipe could not be read")
    return {}


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []


def _without(row: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in row.items()}
