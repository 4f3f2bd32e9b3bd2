"""Figures of the page: differences from KL with their intervals, and the paths of t."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taid_vlm.common.files import write_drawn
from taid_vlm.study.compare import Row
from taid_vlm.study.methods import METHODS


def draw_differences(rows: Sequence[Row], target: Path) -> None:
    """A point and an interval for each method; nothing where no method is compared."""
    compared = [row for row in rows if row.difference is not None and row.interval is not None]
    if not compared:
        return
    plt = _plots()
    figure, axes = plt.subplots(figsize=(7, 0.9 + 0.3 * len(compared)), layout="constrained")
    for place, row in enumerate(reversed(compared)):
        assert row.interval is not None
        assert row.difference is not None
        low, high = (100 * end for end in row.interval)
        colour = "tab:orange" if row.method.startswith("taid") else "tab:blue"
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot([100 * row.difference], [place], "o", color=colour)
    axes.set_ylim(-0.6, len(compared) - 0.4)
    axes.axvline(0, color="black", linewidth=1, zorder=1)
    axes.grid(axis="x", color="lightgrey", linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(compared)), [METHODS[row.method].title for row in reversed(compared)])
    axes.set_xlabel("points above KL (right) or below it, 95 % interval over seeds and items")
    write_drawn(target, lambda file: figure.savefig(file, dpi=110))
    plt.close(figure)


def draw_clocks(rows: Sequence[Row], target: Path) -> None:
    """t of each clock by share of the run, one line for each seed."""
    clocked = [row for row in rows if any(run.clock for run in row.runs.values())]
    if not clocked:
        return
    plt = _plots()
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for number, row in enumerate(clocked):
        # Clocks that go the same way are both seen: every second one is dashed and lies on top.
        style, above = ("-", 2) if number % 2 == 0 else ("--", 3)
        for run in row.runs.values():
            shares = [i / (len(run.clock) - 1) for i in range(len(run.clock))]
            label = METHODS[row.method].title if run is next(iter(row.runs.values())) else None
            axes.plot(shares, run.clock, style, color=f"C{number}", zorder=above, label=label, linewidth=1.4)
    axes.grid(color="lightgrey", linewidth=0.7)
    axes.set(xlabel="share of the updates", ylabel="t, a line for each seed", xlim=(0, 1), ylim=(0, 1.05))
    axes.legend(frameon=False, loc="lower right")
    write_drawn(target, lambda file: figure.savefig(file, dpi=110))
    plt.close(figure)


def _plots() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
