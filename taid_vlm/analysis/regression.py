"""What :mod:`taid_vlm.analysis.rounds` says: self-distillation collapses, TAID does not."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taid_vlm.analysis.bounds import (
    collapse_of_self_distillation,
    enough_for_taid,
    targets_of_self_distillation,
    targets_of_taid,
)
from taid_vlm.analysis.found import Found, Table, number
from taid_vlm.analysis.rounds import Array, Data, Round, distilled, first_collapse, make_data, needed_norm
from taid_vlm.common.errors import UserError
from taid_vlm.losses import linear_t
from taid_vlm.report.chart import Chart, Line

LENGTHS = (4, 16, 64)  # rounds of which the needed norm is sought
BLUE, ORANGE, GREY = 0, 1, 7


@dataclass(frozen=True)
class Asked:
    """The model and the rounds; see ``taid-vlm analyze regression --help``."""

    points: int = 50
    kernel: str = "bridge"
    noise: float = 0.3
    tolerance: float = 0.02
    rounds: int = 20
    t_start: float = 0.4
    seed: int = 0

    def shares(self, rounds: int) -> list[float]:
        """t of TAID in each round from 1 on; the last is 1."""
        return [linear_t(n, rounds, self.t_start, 1.0) for n in range(1, rounds + 1)]


@dataclass(frozen=True)
class Compared:
    """Both students, from the same first fit on; ``norm`` is that of the labels in radii."""

    asked: Asked
    data: Data
    norm: float
    radius: float
    alone: list[Round]
    taid: list[Round]


def regression(asked: Asked) -> Found:
    """Simulate, and put the bounds beside it.

    Raises:
        UserError: a setting is out of range, or the labels are within the tolerance from the start.
    """
    one = _compared(asked)
    needed = _needed(one)
    said = [_told(one), _told_alone(one), _told_taid(one), _told_end(one)]
    return Found(
        "Self-distillation and TAID in kernel regression",
        [_table(one), needed[0]],
        said,
        [*_charts(one), needed[1]],
        _figures(one, needed[2]),
    )


def _compared(asked: Asked) -> Compared:
    for name, value, low, high in (("tolerance", asked.tolerance, 0, math.inf), ("t_start", asked.t_start, -1e-9, 1)):
        if not low < value < high:
            raise UserError(f"{name} is {value}, expected a number {'above 0' if low == 0 else 'from 0 to below 1'}")
    if asked.rounds < 1:
        raise UserError(f"rounds is {asked.rounds}, expected at least 1")
    data = make_data(asked.points, asked.kernel, asked.noise, asked.seed)
    radius = math.sqrt(asked.points * asked.tolerance)
    norm = float(np.linalg.norm(data.labels)) / radius
    if norm <= 1:
        raise UserError(
            f"the labels' mean square is {norm**2 * asked.tolerance:.4g}, within the tolerance {asked.tolerance:g}: the first fit is "
            f"already zero; lower the tolerance"
        )
    alone = distilled(data, radius, [0.0] * asked.rounds)
    return Compared(asked, data, norm, radius, alone, distilled(data, radius, asked.shares(asked.rounds)))


def _told(one: Compared) -> str:
    asked = one.asked
    return (
        f"{asked.points} labels of norm {number(one.norm * one.radius)}; the radius is sqrt({asked.points} x {asked.tolerance:g}) = "
        f"{number(one.radius)}, so that is {number(one.norm)} radii. Eigenvalues of the kernel {asked.kernel}: "
        f"{one.data.values.min():.3g} to {one.data.values.max():.3g}."
    )


def _told_alone(one: Compared) -> str:
    earliest, latest = collapse_of_self_distillation(one.norm)
    found = first_collapse(one.alone)
    seen = f"in round {found}" if found is not None else f"in none of the {one.asked.rounds} rounds that were simulated"
    return (
        f"Self-distillation collapses {seen}. By the bounds it must, in round {earliest} at the earliest and {latest} at the latest, "
        f"whatever the kernel."
    )


def _told_taid(one: Compared) -> str:
    asked, found = one.asked, first_collapse(one.taid)
    lowest = min(targets_of_taid(one.norm, asked.shares(asked.rounds)))
    told = f"TAID, t from {asked.t_start:g} to 1 in {asked.rounds} rounds, " + (
        "collapses in no round" if found is None else f"collapses in round {found}"
    )
    if lowest > 1:
        return f"{told}. By the bound it cannot: its targets have a norm of {number(lowest)} radii or more."
    enough = enough_for_taid(asked.t_start, asked.rounds)
    more = "" if enough is None else f" Labels of a norm above {number(enough)} radii would be enough for certain."
    return f"{told}. The bound leaves it open: it vouches for targets of {number(lowest)} radii, and 1 is needed.{more}"


def _told_end(one: Compared) -> str:
    best = [min(range(len(rounds)), key=lambda n: rounds[n].error) for rounds in (one.alone, one.taid)]
    lowest = [f"{rounds[n].error:.4f} in round {n}" for rounds, n in zip((one.alone, one.taid), best, strict=True)]
    return (
        f"The lowest error is {lowest[0]} of self-distillation and {lowest[1]} of TAID, whose last target is the labels themselves, so that "
        f"its last fit is the first one: in this model the way there does no harm; it does not make the end better."
    )


def _table(one: Compared) -> Table:
    limits, least = _limits(one)
    rows = []
    for n, (alone, taid) in enumerate(zip(one.alone, one.taid, strict=True)):
        low, high = limits[n]
        share = f"{taid.t:.2f}" if n else "-"
        rows.append([str(n), *_cells(alone, f"{low:.2f} to {high:.2f}"), share, *_cells(taid, f"{least[n]:.2f}")])
    heads = ("target", "bounds", "directions", "error", "t", "target", "at least", "directions", "error")
    return Table("Self-distillation (left) and TAID (right), round by round", ("round", *heads), rows)


def _cells(one: Round, bound: str) -> list[str]:
    target = "collapsed" if one.collapsed else f"{one.target:.2f}"
    return [target, bound, f"{one.directions:.1f}", f"{one.error:.4f}"]


def _limits(one: Compared) -> tuple[list[tuple[float, float]], list[float]]:
    rounds = one.asked.rounds
    return targets_of_self_distillation(one.norm, rounds), targets_of_taid(one.norm, one.asked.shares(rounds))


def _needed(one: Compared) -> tuple[Table, Chart, list[dict[str, Any]]]:
    """The smallest norm of the labels with which so many rounds pass, by simulation and by the bounds."""
    rows, figures = [], []
    for rounds in LENGTHS:
        ramp = [n / rounds for n in range(1, rounds + 1)]
        found: dict[str, Any] = {
            "rounds": rounds,
            "self_distillation": needed_norm(one.data, [0.0] * rounds),
            "self_distillation_bounds": (math.sqrt(rounds + 1), rounds + 1.0),
            "taid_from_0": needed_norm(one.data, ramp),
            "taid_from_0_enough": enough_for_taid(0.0, rounds),
            "taid": needed_norm(one.data, one.asked.shares(rounds)),
            "taid_enough": enough_for_taid(one.asked.t_start, rounds),
        }
        figures.append(found)
        low, high = found["self_distillation_bounds"]
        names = ["taid_from_0", "taid_from_0_enough", *(("taid", "taid_enough") if one.asked.t_start else ())]
        cells = [number(found[name]) for name in names]
        rows.append([str(rounds), number(found["self_distillation"]), f"{number(low)} to {number(high)}", *cells])
    start = (f"TAID from {one.asked.t_start:g}", "enough") if one.asked.t_start else ()
    heads = ("rounds", "self-distillation", "bounds", "TAID from 0", "enough", *start)
    title = "Smallest norm of the labels, in radii, with which no round collapses"
    lines = [
        Line("self-distillation", LENGTHS, [row["self_distillation"] for row in figures], ORANGE),
        Line("TAID from 0", LENGTHS, [row["taid_from_0"] for row in figures], BLUE),
        Line("enough for TAID from 0", LENGTHS, [row["taid_from_0_enough"] for row in figures], BLUE, style="dotted"),
    ]
    return (
        Table(title, heads, rows),
        Chart("Labels that are needed", "norm in radii", lines, log=True, x_title="rounds"),
        figures,
    )


def _charts(one: Compared) -> Iterator[Chart]:
    numbers = list(range(one.asked.rounds + 1))
    limits, least = _limits(one)
    yield Chart(
        "Norm of the target",
        "radii of the tolerance",
        [
            Line("self-distillation", numbers, [r.target for r in one.alone], ORANGE),
            Line("at most, by its bounds", numbers, [high for _, high in limits], ORANGE, style="dotted"),
            Line("at least", numbers, [low for low, _ in limits], ORANGE, style="dotted"),
            Line("TAID", numbers, [r.target for r in one.taid], BLUE),
            Line("TAID at least, by its bound", numbers, least, BLUE, style="dotted"),
            Line("collapse", numbers, [1.0] * len(numbers), GREY, style="dashed"),
        ],
        "A target of at most one radius is as well fitted by zero.",
        x_title="round",
    )
    for title, unit, name in (
        ("Directions in use", "basis functions", "directions"),
        ("Error", "mean squared distance from the function behind the labels", "error"),
    ):
        lines = [
            Line(who, numbers, [getattr(r, name) for r in rounds], colour)
            for who, rounds, colour in (("self-distillation", one.alone, ORANGE), ("TAID", one.taid, BLUE))
        ]
        yield Chart(title, unit, lines, x_title="round")
    x = [float(place) for place in one.data.x]
    collapse = first_collapse(one.alone)
    last = len(one.alone) - 1 if collapse is None else collapse - 1
    yield Chart(
        "What is learnt",
        "value",
        [
            Line("labels", x, _listed(one.data.labels), GREY, style="dotted"),
            Line("function behind them", x, _listed(one.data.truth), 2, style="dashed"),
            Line(f"self-distillation, round {last}", x, _listed(one.alone[last].fit), ORANGE),
            Line(f"TAID, round {one.asked.rounds}", x, _listed(one.taid[-1].fit), BLUE),
        ],
        "Self-distillation in the last round before its collapse." if collapse is not None else "",
        x_title="x",
    )


def _listed(values_K: Array) -> list[float]:
    return [float(value) for value in values_K]


def _figures(one: Compared, needed: list[dict[str, Any]]) -> dict[str, Any]:
    def plain(rounds: Sequence[Round]) -> list[dict[str, Any]]:
        return [{key: value for key, value in vars(r).items() if key != "fit"} for r in rounds]

    limits, least = _limits(one)
    return {
        "asked": vars(one.asked),
        "norm": one.norm,
        "self_distillation": {
            "collapse": first_collapse(one.alone),
            "collapse_bounds": collapse_of_self_distillation(one.norm),
            "target_bounds": limits,
            "rounds": plain(one.alone),
        },
        "taid": {"collapse": first_collapse(one.taid), "target_at_least": least, "rounds": plain(one.taid)},
        "needed": needed,
    }
