"""What ``taid-vlm compare`` does: a table or JSON, and a page of the items that one gets right and the other wrong."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm_eval.compare import Pair, compare
from taid_vlm_eval.compare_page import page
from taid_vlm_eval.table import figure, print_whole


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
    pairs = compare(folders, tasks=tasks, tasks_folders=tasks_folders)
    if html is not None:
        write_atomic(html, page(pairs, most))
    if as_json:
        print(json.dumps([_plain(pair) for pair in pairs], indent=2, ensure_ascii=False))
        return
    show(pairs)
    if html is not None:
        print(f"page: {html}")


def show(pairs: Sequence[Pair]) -> None:
    """One row per task and pair, its named figures below, indented; a star where the interval leaves out 0."""
    table = Table(caption="* the 95 % interval of the difference leaves out 0", caption_justify="left")
    for heading in ("task", "figure", "against"):
        table.add_column(heading)
    first = pairs[0].first
    for heading in (first, "the other", "difference (95 %)"):
        table.add_column(Text(heading), justify="right")
    for pair in pairs:
        for place, one in enumerate(pair.differences):
            low, high = (figure(bound, one.top, "+") for bound in (one.low, one.high))
            table.add_row(
                Text("" if place else pair.task),
                Text(f"  {one.figure}" if place else one.figure),
                Text("" if place else pair.second),
                figure(one.first, one.top),
                figure(one.second, one.top),
                f"{figure(one.difference, one.top, '+')} ({low} to {high}) {'*' if one.clear else ' '}",
            )
    console = print_whole(table)
    for pair in pairs:
        for note in pair.notes:
            line = f"{pair.task}, {pair.second}: {note}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _plain(pair: Pair) -> dict[str, Any]:
    gains = [one.value - other.value for one, other in zip(*pair.scored, strict=True)]
    return {
        "task": pair.task,
        "metric": pair.metric,
        "first": pair.first,
        "second": pair.second,
        "n": len(pair.items),
        "first_better": sum(gain > 0 for gain in gains),
        "second_better": sum(gain < 0 for gain in gains),
        "differences": [{**asdict(one), "clear": one.clear} for one in pair.differences],
        "notes": pair.notes,
    }
