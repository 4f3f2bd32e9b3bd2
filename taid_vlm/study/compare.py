"""The rows of the page's tables: each method of a setting beside the one that it is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taid_vlm.study.plan import Setting, comparison_jobs
from taid_vlm.study.records import Record, Records
from taid_vlm.study.significance import holm, mean_and_half_width, paired_interval, sign_flip_p
from taid_vlm.study.tuning import PRIMARY

BASELINE = "kl"


@dataclass(frozen=True)
class Row:
    """A method in a setting.

    Attributes:
        runs: finished ones that did not break down, by seed. failed: how many did.
        figures: mean and half of the 95 % interval over seeds, of each figure of the test split; those of the blank pictures with ``blank_`` before.
        difference: from the baseline in the primary figure, mean over the seeds that both have; its interval over seeds and items, None for
            one seed.
        p, holm: of the sign-flip test over these seeds; the latter corrected for all methods of the setting.
    """

    method: str
    lr: float | None
    runs: dict[int, Record]
    failed: int
    figures: dict[str, tuple[float, float | None]]
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    holm: float | None = None


def rows_of(setting: Setting, chosen: dict[tuple[str, str], float], records: Records) -> list[Row]:
    """A row for each method of which a run is finished, in the order of the plan."""
    runs: dict[str, dict[int, Record]] = {}
    for job in comparison_jobs(setting, chosen):
        found = records.of(job) if job.lr is not None else None
        if found is not None:
            runs.setdefault(job.method, {})[job.seed] = found
    sound = {m: {seed: one for seed, one in some.items() if not one.failed} for m, some in runs.items()}
    rows = []
    for method in setting.methods:
        if method not in runs:
            continue
        lr = chosen.get((setting.rates_from, method))
        failed = len(runs[method]) - len(sound[method])
        rows.append(row_of(method, lr, sound[method], failed))
    return _compared(setting, rows)


def row_of(method: str, lr: float | None, runs: dict[int, Record], failed: int) -> Row:
    """A row that is compared with no other yet."""
    return Row(method, lr, runs, failed, _figures(list(runs.values())))


def teacher_row(record: Record) -> Row:
    """Figures of a teacher on the samples that its students are measured on."""
    return row_of(record.method, None, {0: record}, 0)


def _figures(runs: Sequence[Record]) -> dict[str, tuple[float, float | None]]:
    named: dict[str, list[float]] = {}
    for run in runs:
        for split, prefix in (("test", ""), ("blank", "blank_")):
            for name, value in run.figures.get(split, {}).items():
                named.setdefault(prefix + name, []).append(value)
        if "blank" in run.figures:
            named.setdefault("visual_reliance", []).append(_reliance(run))
    return {name: mean_and_half_width(values) for name, values in named.items()}


def _reliance(run: Record) -> float:
    """What blank pictures cost in exact match, on the questions of the test split that are asked with them, too."""
    blank = run.items["blank"]["right"]
    seen = run.items["test"]["right"][: len(blank)]
    return float(seen.count("1") - blank.count("1")) / len(blank)


def _compared(setting: Setting, rows: list[Row]) -> list[Row]:
    base = next((row for row in rows if row.method == BASELINE), None)
    if base is None:
        return rows
    found = []
    for row in rows:
        beside = None if row is base else difference(setting, row, base)
        if beside is None:
            found.append(row)
            continue
        gaps, interval = beside
        p = None if interval is None else sign_flip_p(gaps)
        given = {**vars(row), "difference": float(np.mean(gaps)), "interval": interval, "p": p}
        found.append(Row(**given))
    adjusted = iter(holm([row.p for row in found if row.p is not None]))
    return [row if row.p is None else Row(**{**vars(row), "holm": next(adjusted)}) for row in found]


def difference(setting: Setting, first: Row, second: Row) -> tuple[list[float], tuple[float, float] | None] | None:
    """By how much the first is above the second in the primary figure, seed by seed, with the interval of the mean over seeds and items.

    None where no seed has runs of both that are made of the same parts. One seed gives no interval: that of its items would leave out
    by how much seeds differ, and look surer than the interval of five.
    """
    seeds = [s for s in sorted(set(first.runs) & set(second.runs)) if first.runs[s].made_of == second.runs[s].made_of]
    if not seeds:
        return None
    figure = PRIMARY[setting.pair]
    gaps = [first.runs[s].figures["test"][figure] - second.runs[s].figures["test"][figure] for s in seeds]
    if len(seeds) == 1:
        return gaps, None
    sums = [np.array([_items(row.runs[s])[0] for s in seeds]) for row in (first, second)]
    return gaps, paired_interval(sums[0], sums[1], _items(first.runs[seeds[0]])[1])


def _items(run: Record) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each item of the test split adds to the primary figure, and what it counts."""
    items = run.items["test"]
    if "right" in items:
        right = np.array([float(one) for one in items["right"]])
        return right, np.ones_like(right)
    return np.array(items["agreed"], dtype=np.float64), np.array(items["tokens"], dtype=np.float64)
