"""Students of teachers of several sizes: from the records of the study, or from folders of runs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taid_vlm.common.errors import UserError
from taid_vlm.models.student import count_parameters
from taid_vlm.models.teacher import outline_of
from taid_vlm.recipe import load_recipe
from taid_vlm.report.run_files import Run
from taid_vlm.study.methods import METHODS
from taid_vlm.study.plan import SETTINGS, comparison_jobs, setting_of
from taid_vlm.study.records import Record, Records
from taid_vlm.study.significance import mean_and_half_width, paired_interval
from taid_vlm.study.tuning import PRIMARY, chosen_rates

# Settings of the study that differ in the teacher alone, by the layers of its language model.
STUDY = {"charts-teacher-4": 4, "charts-teacher-10": 10, "charts": 30}


@dataclass(frozen=True)
class Cell:
    """Students of one method and one teacher; ``interval`` is of 95 %, None where there is nothing to take it from."""

    method: str
    size: float
    values: tuple[float, ...]
    interval: tuple[float, float] | None

    @property
    def mean(self) -> float:
        """Over the students."""
        return sum(self.values) / len(self.values)


@dataclass(frozen=True)
class Gain:
    """By how much a method's students of the largest teacher are above those of the smallest; ``seeds`` have both."""

    method: str
    seeds: int
    mean: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Sizes:
    """What there is.

    Attributes:
        figure: what students are judged by. unit: of the teachers' sizes.
        higher_is_better: of the figure.
    """

    figure: str
    unit: str
    cells: list[Cell]
    gains: list[Gain]
    higher_is_better: bool = True


def sizes_of_study(out: Path, results: Path) -> Sizes:
    """The settings of the study whose teachers differ.

    Args:
        out: folder of the study's runs. results: folder with ``records.jsonl``.

    Raises:
        UserError: fewer than two of them have finished runs.
    """
    records = Records(out, results)
    found = _by_method(records)
    finished = [name for name in STUDY if any(name in some for some in found.values())]
    if len(finished) < 2:
        told = f"only {', '.join(finished)} has" if finished else "none has"
        raise UserError(
            f"of the settings with teachers of several sizes ({', '.join(STUDY)}) {told} finished runs in {results} or {out / 'records'}; "
            f"taid-vlm study run --only {','.join(STUDY)} makes them, or give folders of runs"
        )
    cells: list[Cell] = []
    gains: list[Gain] = []
    for method, by_setting in found.items():
        for name, runs in by_setting.items():
            values = tuple(_figure(run) for run in runs.values())
            mean, half = mean_and_half_width(values)
            interval = None if half is None else (mean - half, mean + half)
            cells.append(Cell(METHODS[method].title, STUDY[name], values, interval))
        if finished[0] in by_setting and finished[-1] in by_setting:
            gains += _gain(method, by_setting[finished[0]], by_setting[finished[-1]])
    return Sizes("exact match", "layers of the teacher", cells, gains)


def _by_method(records: Records) -> dict[str, dict[str, dict[int, Record]]]:
    """Finished runs that did not break down, by method, setting (the smallest teacher first) and seed."""
    chosen = chosen_rates(SETTINGS, records)
    methods = setting_of("charts-teacher-4").methods
    found: dict[str, dict[str, dict[int, Record]]] = {}
    for name in STUDY:
        for job in comparison_jobs(setting_of(name), chosen):
            record = records.of(job) if job.lr is not None and job.method in methods else None
            if record is not None and not record.failed:
                found.setdefault(job.method, {}).setdefault(name, {})[job.seed] = record
    return {method: found[method] for method in methods if method in found}


def _figure(run: Record) -> float:
    return run.figures["test"][PRIMARY["a"]]


def _gain(method: str, small: dict[int, Record], large: dict[int, Record]) -> Iterator[Gain]:
    """Seed by seed and question by question."""
    seeds = sorted(set(small) & set(large))
    if not seeds:
        return
    right = [
        np.array([[float(one) for one in runs[seed].items["test"]["right"]] for seed in seeds])
        for runs in (large, small)
    ]
    mean = float((right[0] - right[1]).mean())
    interval = paired_interval(right[0], right[1], np.ones(right[0].shape[1]))
    yield Gain(METHODS[method].title, len(seeds), mean, interval)


def sizes_of_runs(runs: Sequence[Run], figure: str = "") -> Sizes:
    """Runs whose teachers differ; those that share method and teacher are seeds of one cell.

    Args:
        figure: name of an evaluated task; when left out, the first that all runs have, or else the held-out cross-entropy.

    Raises:
        UserError: a run without the figure or without a teacher, or teachers of one size only.
    """
    task = figure or _shared_task(runs)
    grouped: dict[tuple[str, float], list[tuple[float, tuple[float, float] | None]]] = {}
    for run in runs:
        grouped.setdefault((_method(run), _parameters(run)), []).append(_value(run, task))
    if len({size for _, size in grouped}) < 2:
        raise UserError(
            f"the teachers of all {len(runs)} runs have the same size; give runs of teachers of several sizes"
        )
    cells = []
    for (method, size), found in sorted(grouped.items(), key=lambda item: item[0][1]):
        values = tuple(value for value, _ in found)
        mean, half = mean_and_half_width(values)
        cells.append(Cell(method, size, values, found[0][1] if half is None else (mean - half, mean + half)))
    return Sizes(task or "held-out cross-entropy", "million parameters of the teacher", cells, [], bool(task))


def _shared_task(runs: Sequence[Run]) -> str:
    return next((task for task in runs[0].results if all(task in run.results for run in runs)), "")


def _value(run: Run, task: str) -> tuple[float, tuple[float, float] | None]:
    if task and task in run.results:
        result = run.results[task]
        ends = (result.get("low"), result.get("high"))
        return float(result["value"]), (float(ends[0]), float(ends[1])) if None not in ends else None  # type: ignore[arg-type]
    held = next((row["cross_entropy"] for row in reversed(run.validations) if "cross_entropy" in row), math.nan)
    if task or not math.isfinite(held):
        known = ", ".join(run.results) or "none"
        raise UserError(
            f"{run.name} has no {task or 'evaluated task or held-out cross-entropy'}; its evaluated tasks: {known}"
        )
    return float(held), None


def _method(run: Run) -> str:
    loss = run.part("loss")
    return f"taid, {loss.get('schedule')}" if loss.get("name") == "taid" else str(loss.get("name"))


def _parameters(run: Run) -> float:
    """Of the teacher, in millions; no weights are loaded."""
    spec = load_recipe(run.folder / "recipe.yaml").teacher
    if spec is None:
        raise UserError(f"{run.name} has no teacher; the capacity gap is between students and teachers")
    return round(count_parameters(outline_of(spec).model) / 1e6, 3)
