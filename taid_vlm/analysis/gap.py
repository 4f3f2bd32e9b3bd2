"""The capacity gap: does a student of a larger teacher become better or worse (Table 6 of arXiv 2501.16937)?"""

from collections.abc import Iterator

from taid_vlm.analysis.found import Found, Table, number, signed
from taid_vlm.analysis.teacher_sizes import Cell, Sizes
from taid_vlm.report.chart import Chart, Line


def gap(sizes: Sizes) -> Found:
    """Quality by teacher size and method, and what a larger teacher brings."""
    columns = sorted({cell.size for cell in sizes.cells})
    methods = list(dict.fromkeys(cell.method for cell in sizes.cells))
    known = {(cell.method, cell.size): cell for cell in sizes.cells}
    rows = [[method, *(_cell(known.get((method, size))) for size in columns)] for method in methods]
    title = f"Students' {sizes.figure} by {sizes.unit} (mean, 95 % interval, number of students)"
    tables = [Table(title, ["method", *(number(size) for size in columns)], rows)]
    if sizes.gains:
        smallest, largest = number(columns[0]), number(columns[-1])
        gains = [
            [one.method, str(one.seeds), f"{one.mean:+.4f}", "{:+.4f} to {:+.4f}".format(*one.interval)]
            for one in sizes.gains
        ]
        tables.append(
            Table(
                f"From a teacher of {smallest} to one of {largest} {sizes.unit.removesuffix(' of the teacher')}",
                ["method", "seeds", "difference", "95 %"],
                gains,
            )
        )
    figures = {
        "figure": sizes.figure,
        "unit": sizes.unit,
        "cells": [{**vars(cell), "mean": cell.mean} for cell in sizes.cells],
        "gains": [vars(one) for one in sizes.gains],
    }
    return Found("Capacity gap", tables, list(_told(sizes, columns)), [_chart(sizes, methods)], figures)


def _cell(cell: Cell | None) -> str:
    """With as many places in every cell, so that they can be compared at a glance."""
    if cell is None:
        return "-"
    interval = " ({:.4f} to {:.4f})".format(*cell.interval) if cell.interval else ""
    return f"{cell.mean:.4f}{interval}, {len(cell.values)}"


def _told(sizes: Sizes, columns: list[float]) -> Iterator[str]:
    better = "higher" if sizes.higher_is_better else "lower"
    yield f"Of {sizes.figure}, {better} is better. Intervals of several students are t-intervals over their seeds."
    for one in sizes.gains:
        low, high = one.interval
        how = "gains from" if low > 0 else "loses by" if high < 0 else "neither gains nor loses for certain by"
        yield f"{one.method} {how} the larger teacher: {signed(one.mean, one.interval)} over {one.seeds} seeds and all questions."
    if any(len(cell.values) == 1 for cell in sizes.cells):
        yield "Where there is one student, the interval is that of its own test, if it has one: it says nothing of other seeds."


def _chart(sizes: Sizes, methods: list[str]) -> Chart:
    lines = []
    for place, method in enumerate(methods):
        cells = sorted((cell for cell in sizes.cells if cell.method == method), key=lambda cell: cell.size)
        ends = [cell.interval or (cell.mean, cell.mean) for cell in cells]
        lines.append(Line(method, [cell.size for cell in cells], [cell.mean for cell in cells], place, ends))
    return Chart(
        "Students by the size of their teacher", sizes.figure, lines, "Bars are 95 % intervals.", x_title=sizes.unit
    )
