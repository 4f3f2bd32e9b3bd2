"""Variance of the loss in training: is TAID's objective steadier than KL's (Figure 2 of arXiv 2501.16937), and what of that is the objective's scale?"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from taid_vlm.analysis.found import Found, Table, between, number
from taid_vlm.analysis.wobble import Wobble, ratio, wobble
from taid_vlm.common.errors import UserError
from taid_vlm.report.chart import Chart, Line
from taid_vlm.report.run_files import Run

FIGURES = {
    "loss": "objective of each run",
    "kl_teacher": "KL to the teacher, t = 1",
    "cross_entropy": "cross-entropy on the labels",
    "grad_norm": "gradient norm before clipping",
}
LEAST = 8  # steps of a window


@dataclass(frozen=True)
class Series:
    """A figure of one run at steps that all runs have; ``windows`` are (last step, wobble) in their order."""

    run: str
    number: int
    values: list[float]
    whole: Wobble
    windows: list[tuple[int, Wobble]]


def variance(runs: Sequence[Run], windows: int = 5, skip: int = 0) -> Found:
    """Compare the runs figure by figure.

    Args:
        windows: into which the steps are cut.
        skip: first steps that are left out.

    Raises:
        UserError: too few steps to say anything.
    """
    base = next((run for run in runs if run.part("loss").get("name") == "kl"), runs[0])
    rows, charts, missing = [], [], []
    figures: dict[str, dict[str, Any]] = {}
    for name, about in FIGURES.items():
        steps, shared = _shared(runs, name, skip)
        if len(shared) < len(runs):
            missing.append(
                f"{name} is not recorded in {', '.join(run.name for run in runs if run.name not in shared)}."
            )
        if not shared:
            continue
        series = [
            _series(run, place, shared[run.name], steps, windows)
            for place, run in enumerate(runs)
            if run.name in shared
        ]
        measured = next((one for one in series if one.run == base.name), None)
        charts.append(_chart(about, series))
        figures[name] = {}
        for one in series:
            over = _beside(one, measured)
            rows.append(_row(name, one, over))
            figures[name][one.run] = _figures(one, over)
    heads = ("figure", "run", "steps", "mean", "deviation", "variation", "95 %", f"over {base.name}", "95 %")
    said = [*_told(runs, base, figures), *missing]
    return Found(
        "Variance of the loss from step to step",
        [Table("Noise of each figure beside its trend", heads, rows)],
        said,
        charts,
        {"base": base.name, "figures": figures},
    )


def _shared(runs: Sequence[Run], name: str, skip: int) -> tuple[list[int], dict[str, list[float]]]:
    """Steps at which every run that has the figure has a finite one, and the figure there, by run.

    Raises:
        UserError: they are too few.
    """
    known = {run.name: {row["step"]: row[name] for row in run.steps if _is_number(row.get(name))} for run in runs}
    having = {run: values for run, values in known.items() if values}
    if not having:
        return [], {}
    steps = sorted(set.intersection(*(set(values) for values in having.values())) - set(range(skip + 1)))
    if len(steps) < LEAST:
        raise UserError(
            f"the runs share {len(steps)} steps with a finite {name} after the first {skip}, at least {LEAST} are needed"
        )
    return steps, {run: [float(values[step]) for step in steps] for run, values in having.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _series(run: Run, place: int, values: list[float], steps: list[int], windows: int) -> Series:
    count = max(1, min(windows, len(values) // LEAST))
    ends = [round(n * len(values) / count) for n in range(count + 1)]
    parts = [(steps[end - 1], wobble(values[start:end])) for start, end in pairwise(ends)]
    return Series(run.name, place, values, wobble(values), parts)


Over = tuple[float, tuple[float, float]] | None  # variation over that of another run, and its interval


def _row(name: str, one: Series, over: Over) -> list[str]:
    whole = one.whole
    told = ["-", ""] if over is None else [number(over[0]), between(over[1]).strip()]
    own = [number(whole.mean), number(whole.deviation), number(whole.variation), between(whole.interval).strip()]
    return [name, one.run, str(len(one.values)), *own, *told]


def _beside(one: Series, base: Series | None) -> Over:
    if base is None or base is one or not base.whole.variation:
        return None
    return ratio(one.values, base.values)


def _told(runs: Sequence[Run], base: Run, figures: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield (
        "Deviation is that of the noise from step to step, in the figure's unit; variation is the same relative to the figure. Losses at "
        "different t are on different scales, and TAID's gradient is small where t is: compare variations, or kl_teacher, which is at t = 1 in all."
    )
    for run in runs:
        if run is not base:
            yield f"{run.name} and {base.name} {_order(run, base)}."
    for name in ("loss", "kl_teacher"):
        for who, one in figures.get(name, {}).items():
            if one["over"] is not None:
                yield f"{name}: {_verdict(who, base.name, one['over'], one['over_interval'])}."


def _order(run: Run, base: Run) -> str:
    """Whether both met the same data in the same order, by the number of answer tokens in each step."""
    counts = [[row.get("rows") for row in one.steps] for one in (run, base)]
    shared = min(map(len, counts))
    if None in counts[0] or None in counts[1] or not shared:
        return "do not tell whether they met the same data in the same order"
    same = sum(first == second for first, second in zip(*counts, strict=False))
    if same == shared:
        return f"met the same number of answer tokens in each of {shared} steps: the same data in the same order"
    return (
        f"met another number of answer tokens in {shared - same} of {shared} steps: not the same data in the same order"
    )


def _verdict(run: str, base: str, over: float, interval: tuple[float, float]) -> str:
    low, high = interval
    how = (
        "varies less than"
        if high < 1
        else "varies more than"
        if low > 1
        else "cannot be told apart in its variation from"
    )
    return f"{run} {how} {base}, {number(over)} times as much{between(interval)}"


def _chart(about: str, series: Sequence[Series]) -> Chart:
    lines = []
    for one in series:
        steps, parts = [float(step) for step, _ in one.windows], [part for _, part in one.windows]
        lines.append(
            Line(one.run, steps, [part.variation for part in parts], one.number, [part.interval for part in parts])
        )
    told = "Relative noise in windows of the training, at the last step of each; bars are 95 % intervals."
    return Chart(f"Variation: {about}", "share of the figure", lines, told)


def _figures(one: Series, over: Over) -> dict[str, Any]:
    times, interval = over or (None, None)
    windows = [{"until": step, **asdict(part)} for step, part in one.windows]
    return {
        "steps": len(one.values),
        **asdict(one.whole),
        "over": times,
        "over_interval": interval,
        "windows": windows,
    }
