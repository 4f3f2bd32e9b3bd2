"""How far the path of t is from the straight line, and why: TAID's clock over losses that are made up or were recorded."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from taid_vlm.analysis.found import Found, Table
from taid_vlm.analysis.replay import Recorded, Settings, Signal, Trace, replay, synthetic
from taid_vlm.common.errors import UserError
from taid_vlm.losses.schedule import sigmoid
from taid_vlm.report.chart import Chart, Line

GREY = 7
SAME = 1e-4  # in t: on the line
FAST = math.log(1.5)  # the momentum at which sigmoid is 0.6
MOST = 64  # combinations
POINTS = 200  # of a path, where paths of different lengths share a chart


@dataclass(frozen=True)
class Departure:
    """One clock over one sequence of losses.

    Attributes:
        path, line, curve: its t, that of the straight line, and that with sigmoid(momentum) held at 1/2.
        above, most: mean and largest difference from the line. at: the step of the largest, from 1.
        from_curve: largest difference from the curve.
        low, high: of sigmoid(momentum).
    """

    settings: Settings
    path: Trace
    line: Trace
    curve: Trace
    above: float
    most: float
    at: int
    from_curve: float
    low: float
    high: float

    @property
    def gaps(self) -> list[float]:
        """How far t is above the line at each step."""
        return [t - straight for t, straight in zip(self.path.t, self.line.t, strict=True)]

    @property
    def total(self) -> float:
        """alpha times the updates of the run."""
        return self.settings.alpha * self.settings.steps


def departure(settings: Settings, signals: Sequence[Signal]) -> Departure:
    """Replay a clock, and the line and the curve beside it."""
    path, line, curve = (
        replay(replace(settings, schedule=name, set_point=point), signals)
        for name, point in ((settings.schedule, settings.set_point), ("linear", None), ("exponential", None))
    )
    gaps = [t - straight for t, straight in zip(path.t, line.t, strict=True)]
    at = max(range(len(gaps)), key=lambda place: abs(gaps[place]))
    return Departure(
        settings,
        path,
        line,
        curve,
        sum(gaps) / len(gaps),
        gaps[at],
        at + 1,
        max(abs(t - held) for t, held in zip(path.t, curve.t, strict=True)),
        sigmoid(min(path.momentum)),
        sigmoid(max(path.momentum)),
    )


@dataclass(frozen=True)
class Sweep:
    """Values that are tried in every combination; None stands for the usual one, which is the run's own where there is a run."""

    alphas: Sequence[float] | None = None
    betas: Sequence[float] | None = None
    t_starts: Sequence[float] | None = None
    steps: Sequence[int] | None = None
    noise: float = 0.1
    seed: int = 0


def schedule_of_synthetic(sweep: Sweep) -> Found:
    """The paths over a made-up loss.

    Raises:
        UserError: a setting is out of range, or there are too many of them.
    """
    values = (
        sweep.steps or (1000, 4000, 11700, 100000),
        sweep.alphas or (5e-4,),
        sweep.betas or (0.99,),
        sweep.t_starts or (0.4,),
    )
    _check_count(values)
    found = []
    for steps, alpha, beta, t_start in product(*values):
        settings = Settings(steps, alpha=alpha, beta=beta, t_start=t_start)
        settings.clock()  # refuses what is out of range
        found.append(departure(settings, synthetic(steps, sweep.noise, sweep.seed)))
    told = f"The loss is made up: it falls from 3 nats to about 0.9, with {sweep.noise:.0%} of noise per update."
    return _found("Paths of t over a made-up loss", found, [told], share=True)


def schedule_of_run(run: Recorded, sweep: Sweep) -> Found:
    """The run's own path, and what it would have been with other settings over the very same losses.

    Raises:
        UserError: a setting is out of range, the number of steps is to be another one, or there are too many of them.
    """
    own = run.settings
    if sweep.steps is not None:
        raise UserError("--steps goes with a made-up loss; a run has as many steps as were recorded")
    usual = [own.alpha, *(min(1.0, total / own.steps) for total in (5.9, 20.0))]
    values = (sweep.alphas or list(dict.fromkeys(usual)), sweep.betas or (own.beta,), sweep.t_starts or (own.t_start,))
    _check_count(values)
    others = [
        Settings(own.steps, alpha=alpha, beta=beta, t_start=t_start, t_end=own.t_end)
        for alpha, beta, t_start in product(*values)
    ]
    found = [departure(settings, run.signals) for settings in others]
    said = [
        _told_replay(run),
        f"The losses are {run.signal} of {run.name}, as recorded: with another t they would have been others.",
    ]
    result = _found(f"Paths of t over the losses of {run.name}", found, said, share=False)
    recorded = [Line(f"recorded ({own.schedule})", _numbers(run.t), run.t, 1, style="dashed")] if run.t else []
    charts = [replace(result.charts[0], lines=[*result.charts[0].lines, *recorded]), *result.charts[1:]]
    return replace(
        result,
        charts=charts,
        figures={**result.figures, "run": run.name, "own": asdict(own), "differs": _differing(run)},
    )


def _told_replay(run: Recorded) -> str:
    if not run.t:
        return f"{run.name} had no clock; its losses drive those that are tried."
    wrong = _differing(run)
    if not wrong:
        return f"Replayed with the run's own settings, all {len(run.t)} recorded values of t and of the momentum are met exactly."
    return f"Replayed with the run's own settings, {wrong} of {len(run.t)} recorded values of t or momentum are not met: another version wrote them."


def _differing(run: Recorded) -> int:
    path = replay(run.settings, run.signals)
    pairs = zip(path.t, path.momentum, run.t, run.momentum, strict=False)
    return sum((t, m) != (own_t, own_m) for t, m, own_t, own_m in pairs)


def _found(title: str, found: Sequence[Departure], said: list[str], share: bool) -> Found:
    named = {_name(one, found): one for one in found}
    return Found(
        title,
        [_table(found)],
        [*said, *_told(found)],
        list(_charts(named, share)),
        {"paths": [_figures(one) for one in found]},
    )


def _name(one: Departure, among: Sequence[Departure]) -> str:
    """What tells it from the others."""
    shown = {"steps": "{:d} updates", "alpha": "alpha {:g}", "beta": "beta {:g}", "t_start": "t_start {:g}"}
    differ = [key for key in shown if len({getattr(other.settings, key) for other in among}) > 1] or ["alpha"]
    return ", ".join(shown[key].format(getattr(one.settings, key)) for key in differ)


def _table(found: Sequence[Departure]) -> Table:
    rows = []
    for one in found:
        settings = one.settings
        own = [f"{settings.alpha:g}", f"{one.total:.3g}", f"{settings.beta:g}", f"{settings.t_start:g}"]
        away = [
            f"{one.above:+.4f}",
            f"{one.most:+.4f}",
            str(one.at) if abs(one.most) >= SAME else "-",
            f"{one.from_curve:.4f}",
        ]
        rows.append([str(settings.steps), *own, *away, f"{one.low:.4f} to {one.high:.4f}"])
    heads = (
        "updates",
        "alpha",
        "alpha x updates",
        "beta",
        "t_start",
        "above the line",
        "most",
        "at",
        "from the curve",
        "sigmoid(m)",
    )
    return Table("t beside the straight line and the exponential curve", heads, rows)


def _told(found: Sequence[Departure]) -> Iterator[str]:
    lines = [one for one in found if abs(one.most) < SAME]
    if lines:
        worst = max(one.total for one in lines)
        yield (
            f"{len(lines)} of {len(found)} paths {'is' if len(lines) == 1 else 'are'} the straight line: at the rate alpha/2, t leaves it only "
            f"if alpha/2 > 1/updates, that is above 2/alpha updates (4000 at the paper's 5e-4); here alpha x updates is at most {worst:.3g}."
        )
    low, high = min(one.low for one in found), max(one.high for one in found)
    yield (
        f"sigmoid(m) stays at one half ({low:.4f} to {high:.4f}), because m is the mean relative fall of the loss per update: it would be 0.6 "
        f"only if the loss fell by {FAST:.0%} in every update. What noise adds is a slight downward pull, for a rise counts more than a fall."
    )
    away = max(one.from_curve for one in found)
    yield f"So t is at most {away:.4f} away from the exponential curve, which looks at no loss at all (schedule: exponential)."


def _charts(named: dict[str, Departure], share: bool) -> Iterator[Chart]:
    x_title = "percent of the updates" if share else "optimizer step"

    def line(name: str, values: Sequence[float], colour: int, style: str = "solid") -> Line:
        if not share:
            return Line(name, _numbers(values), values, colour, style=style)
        places = [min(len(values) - 1, round(len(values) * n / POINTS)) for n in range(POINTS + 1)]
        return Line(
            name, [100 * n / POINTS for n in range(POINTS + 1)], [values[at] for at in places], colour, style=style
        )

    def lines(of: Callable[[Departure], Sequence[float]]) -> list[Line]:
        return [line(name, of(one), _colour(place)) for place, (name, one) in enumerate(named.items())]

    starts = {one.settings.t_start: one for one in named.values()}
    straight = [line(f"straight line from {start:g}", one.line.t, GREY, "dotted") for start, one in starts.items()]
    yield Chart(
        "t", "from student to teacher", [*lines(lambda one: one.path.t), *straight], bounds=(0.0, 1.05), x_title=x_title
    )
    yield Chart("Above the straight line", "difference in t", lines(lambda one: one.gaps), x_title=x_title)
    held = lines(lambda one: [sigmoid(m) for m in one.path.momentum])
    yield Chart("sigmoid(m)", "share of alpha that t moves by", held, x_title=x_title)


def _colour(place: int) -> int:
    """Grey is the straight line's, and orange what was recorded."""
    return (0, 2, 3, 4, 5, 6)[place % 6]


def _numbers(values: Sequence[float]) -> list[float]:
    return [float(n) for n in range(1, len(values) + 1)]


def _figures(one: Departure) -> dict[str, Any]:
    names = ("above", "most", "at", "from_curve", "low", "high", "total")
    return {**asdict(one.settings), **{name: getattr(one, name) for name in names}}


def _check_count(values: Sequence[Sequence[float]]) -> None:
    count = math.prod(len(some) for some in values)
    if count > MOST:
        raise UserError(f"{count} combinations of settings were asked for, at most {MOST} are tried; name fewer values")
