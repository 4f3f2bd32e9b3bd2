"""The rows of the page's tables: each method of a setting beside the one that it is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
        difference: from the baseline in the primary figure, mean over the seeds that both have; its interval over seeds and items.
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
        rows.append(Row(method, lr, sound[method], failed, _figures(list(sound[method].values()))))
    return _compared(setting, rows)


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
    return (seen.count("1") - blank.count("1")) / len(blank)


def _compared(setting: Setting, rows: list[Row]) -> list[Row]:
    base = next((row for row in rows if row.method == BASELINE), None)
    if base is None:
        return rows
    found = []
    for row in rows:
        seeds = sorted(set(row.runs) & set(base.runs))
        same = [seed for seed in seeds if row.runs[seed].made_of == base.runs[seed].made_of]
        if row is base or not same:
            found.append(row)
            continue
        figure = PRIMARY[setting.pair]
        gaps = [row.runs[s].figures["test"][figure] - base.runs[s].figures["test"][figure] for s in same]
        first, second = (np.array([_items(one.runs[s])[0] for s in same]) for one in (row, base))
        interval = paired_interval(first, second, _items(row.runs[same[0]])[1])
        given = {**vars(row), "difference": float(np.mean(gaps)), "interval": interval, "p": sign_flip_p(gaps)}
        found.append(Row(**given))
    adjusted = iter(holm([row.p for row in found if row.p is not None]))
    return [row if row.p is None else Row(**{**vars(row), "holm": next(adjusted)}) for row in found]


def _items(run: Record) -> tuple[np.ndarray, np.ndarray]:
    """What each item of the test split adds to the primary figure, and what it counts."""
    items = run.items["test"]
    if "right" in items:
        right = np.array([float(one) for one in items["right"]])
        return right, np.ones_like(right)
    return np.array(items["agreed"], dtype=np.float64), np.array(items["tokens"], dtype=np.float64)
