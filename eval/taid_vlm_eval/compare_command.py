"""What ``taid-vlm compare`` does: tables or JSON, and a page of the items that one gets right and the other wrong."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm.common.progress import waiting
from taid_vlm.common.telling import for_terminal
from taid_vlm.common.visible import on_one_line
from taid_vlm_eval.compare import Difference, Pair, compare
from taid_vlm_eval.compare_page import page
from taid_vlm_eval.table import figure, print_whole

CLEAR = "* the 95 % interval of the difference leaves out 0"


def run_compare(
    folders: Sequence[str | Path],
    *,
    tasks: Sequence[str] = (),
    tasks_folders: Sequence[str | Path] = (),
    html: Path | None = None,
    most: int = 100,
    as_json: bool = False,
) -> None:
    """Compare, print to standard output, and write the page where one is asked for.

    Args:
        html: file to write.
        most: items that the page shows of each kind.
        others: see :func:`compare`.

    Raises:
        UserError: see :func:`compare`; a page that cannot be written.
    """
    if html is not None and html.is_dir():
        raise UserError(f"--html {html} is a folder; give the name of a file, such as {html / 'compare.html'}")
    with waiting("comparing"):
        pairs = compare(folders, tasks=tasks, tasks_folders=tasks_folders)
        if html is not None:
            write_atomic(html, page(pairs, most))
    if as_json:
        print(json.dumps([_plain(pair) for pair in pairs], indent=2))
        return
    show(pairs)
    if html is not None:
        print(f"page: {html}")


def show(pairs: Sequence[Pair]) -> None:
    """Values and differences, a row for each figure of each task; two tables where there are more than two models."""
    others = list(dict.fromkeys(pair.labels[1] for pair in pairs))
    first = pairs[0].labels[0]
    values: list[Column] = [
        (f"{first} (95 %)", others[0], _first),
        *((f"{one} (95 %)", one, _second) for one in others),
    ]
    gaps: list[Column] = [(f"{first} - {one} (95 %)", one, _gap) for one in others]
    tables = [values + gaps] if len(others) == 1 else [values, gaps]
    for columns in tables:
        console = print_whole(_table(pairs, columns, CLEAR if columns[-1][2] is _gap else None))
    _print_notes(console, pairs)


Column = tuple[str, str, Callable[[Difference], str]]  # heading, the model beside the first, and the cell


def _table(pairs: Sequence[Pair], columns: Sequence[Column], caption: str | None) -> Table:
    table = Table(caption=caption, caption_justify="left")
    for heading in ("task", "figure"):
        table.add_column(heading)
    for heading, _, _ in columns:
        table.add_column(Text(on_one_line(heading)), justify="right")
    for task, group in groupby(pairs, key=lambda pair: pair.task):
        found = {pair.labels[1]: {one.figure: one for one in pair.differences} for pair in group}
        names = dict.fromkeys(name for figures in found.values() for name in figures)
        for place, name in enumerate(names):
            cells = [cell(found[model][name]) if name in found[model] else "-" for _, model, cell in columns]
            lower = any(figures[name].lower_is_better for figures in found.values() if name in figures)
            label = f"{'  ' if place else ''}{name}{' (lower is better)' if lower else ''}"
            table.add_row(Text("" if place else task), Text(on_one_line(label)), *cells)
    return table


def _first(one: Difference) -> str:
    return _with_interval(one.first, *one.first_interval, one.top)


def _second(one: Difference) -> str:
    return _with_interval(one.second, *one.second_interval, one.top)


def _gap(one: Difference) -> str:
    return f"{_with_interval(one.difference, one.low, one.high, one.top, '+')} {'*' if one.clear else ' '}"


def _with_interval(value: float, low: float, high: float, top: float, sign: str = "") -> str:
    return f"{figure(value, top, sign)} ({figure(low, top, sign)} to {figure(high, top, sign)})"


def _print_notes(console: Console, pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        for note in pair.notes:
            line = f"{pair.task}, {pair.labels[1]}: {note}"
            console.print(for_terminal(line), markup=False, highlight=False, soft_wrap=True)


def _plain(pair: Pair) -> dict[str, Any]:
    return {
        "task": pair.task,
        "metric": pair.metric,
        "first": pair.first,
        "second": pair.second,
        "n": len(pair.items),
        "first_better": int((pair.gains_N > 0).sum()),
        "second_better": int((pair.gains_N < 0).sum()),
        "differences": [{**asdict(one), "clear": one.clear} for one in pair.differences],
        "notes": pair.notes,
    }
