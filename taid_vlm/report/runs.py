"""Runs of a folder, one line each."""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.visible import on_one_line
from taid_vlm.report.run_files import Run, read_run

DEEP = 6  # folders below the one that is looked through
NAME = 16  # columns of the terminal that a longer name has at least
# Of the table, on narrower and narrower terminals.
LEFT_OUT = ("recipe", "95 %", "age", "last loss", "loss", "evaluation")


@dataclass(frozen=True)
class Summary:
    """What a line says of a run.

    Attributes:
        recipe: the name that it was started with; "" when it wrote down none.
        figure: of its first evaluated task, with the 95 % interval ``low`` to ``high``; None when there is none.
        changed: when it last wrote something down, in seconds since 1970.
    """

    name: str
    recipe: str
    loss: str
    steps: int
    total: int
    state: str
    last_loss: float | None
    kl_to_teacher: float | None
    task: str
    figure: float | None
    low: float | None
    high: float | None
    seconds: float
    memory_bytes: float | None
    changed: float


def summary(run: Run) -> Summary:
    """One run."""
    last: dict[str, Any] = run.steps[-1] if run.steps else {}
    kl = last.get("kl_teacher")
    task, (figure, low, high) = _measured(run)
    origin = run.about.get("origin")
    return Summary(
        name=run.name,
        recipe=str(origin.get("recipe", "")) if isinstance(origin, dict) else "",
        loss=str(run.part("loss").get("name", "")),
        steps=run.done,
        total=run.total,
        state=run.state,
        last_loss=last.get("loss"),
        kl_to_teacher=kl if isinstance(kl, (int, float)) else None,
        task=task,
        figure=figure,
        low=low,
        high=high,
        seconds=sum(row["seconds"] for row in run.timing),
        memory_bytes=max((row["memory_bytes"] for row in run.timing if "memory_bytes" in row), default=None),
        changed=run.changed,
    )


def find_runs(folder: Path) -> list[Run]:
    """All runs in a folder and those below it, by path; what is inside of a run is not looked at.

    Raises:
        UserError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the one that your runs are in (taid-vlm train writes to runs/)")
    found = [read_run(one, _name(one, folder)) for one in _folders(folder, DEEP)]
    if not found:
        raise UserError(f"no run in {folder}: no folder with a run.json in it")
    return found


def as_json(found: list[Run]) -> list[dict[str, Any]]:
    """The lines as JSON values; a figure that is not finite is None."""
    lines = [asdict(summary(run)) | {"folder": str(run.folder)} for run in found]
    return [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()} for line in lines
    ]


def table_of(found: list[Run], width: int, now: float | None = None) -> Any:
    """The lines as a table for a terminal of ``width`` columns; a narrow one lacks some of them, and long names are broken."""
    from rich.console import Console

    rows = [_cells(run, time.time() if now is None else now) for run in found]
    short_names = [{**row, "run": row["run"][:NAME]} for row in rows]
    needs = Console(width=10_000).measure
    choices = (LEFT_OUT[:count] for count in range(len(LEFT_OUT)))
    fitting = (left_out for left_out in choices if needs(_table(short_names, left_out)).maximum <= width)
    return _table(rows, next(fitting, LEFT_OUT))


def _cells(run: Run, now: float) -> dict[str, str]:
    """What a line says, by heading."""
    one = summary(run)
    return {
        "run": one.name,
        "recipe": one.recipe or "-",
        "loss": one.loss or "-",
        "steps": f"{one.steps}/{one.total}" if one.total else str(one.steps),
        "state": one.state,
        "last loss": "-" if one.last_loss is None else f"{one.last_loss:.4f}",
        "evaluation": "-" if one.figure is None else f"{one.task} {one.figure:.4g}",
        "95 %": "-" if one.low is None or one.high is None else f"{one.low:.4g} to {one.high:.4g}",
        "age": long(now - one.changed),
    }


def _table(rows: list[dict[str, str]], left_out: tuple[str, ...]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    headings = [heading for heading in rows[0] if heading not in left_out]
    for heading in headings:
        numeric = heading not in ("run", "recipe", "loss", "state")
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold", no_wrap=heading != "run")
    for row in rows:
        table.add_row(*(Text(on_one_line(row[heading])) for heading in headings))
    return table


def long(seconds: float) -> str:
    """A time for people: its largest unit, or two where one says little."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


def _measured(run: Run) -> tuple[str, tuple[float | None, float | None, float | None]]:
    """The first task of the final evaluation, or of the last on the way."""
    wanted = run.part("evaluation").get("tasks")
    named = [str(name) for name in wanted] if isinstance(wanted, list) else []
    tasks = sorted(
        run.results, key=lambda task: next((i for i, n in enumerate(named) if Path(n).stem == task), len(named))
    )
    if tasks:
        one = run.results[tasks[0]]
        return tasks[0], (one["value"], one.get("low"), one.get("high"))
    for row in reversed(run.evaluations):
        for task in row:
            if f"{task}_low" in row and f"{task}_high" in row:
                return task, (row[task], row[f"{task}_low"], row[f"{task}_high"])
    return "", (None, None, None)


def _folders(folder: Path, deep: int) -> list[Path]:
    if (folder / "run.json").is_file():
        return [folder]
    if deep == 0:
        return []
    try:
        below = sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink() and one.name[0] != ".")
    except PermissionError:
        return []
    return [run for one in below for run in _folders(one, deep - 1)]


def _name(run: Path, folder: Path) -> str:
    return run.relative_to(folder).as_posix() if run != folder else run.resolve().name
