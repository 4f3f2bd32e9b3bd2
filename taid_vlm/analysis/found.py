"""What an analysis found, in one form for the terminal, JSON, a page and a picture."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from taid_vlm.common.visible import on_one_line
from taid_vlm.report.chart import Chart
from taid_vlm.report.scale import short

GAP = "  "  # between columns


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column names the row."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Found:
    """An answer.

    Attributes:
        said: sentences, each of which stands for itself.
        figures: the same as JSON values, unrounded.
    """

    title: str
    tables: Sequence[Table]
    said: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    figures: dict[str, Any] = field(default_factory=dict)


def as_text(found: Found, sentences: bool = True) -> str:
    """Tables for a terminal of any width, and below them what they say."""
    parts = ["\n".join(_lines(table)) for table in found.tables]
    if sentences and found.said:
        parts.append("\n".join(on_one_line(line) for line in found.said))
    return "\n\n".join(parts)


def as_json(found: Found) -> str:
    """JSON; a figure that is not finite is null."""
    return json.dumps({"title": found.title, **_finite(found.figures), "said": list(found.said)}, indent=2)


def number(value: float | None) -> str:
    """A figure for people, or a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else short(value)


def between(interval: tuple[float, float] | None) -> str:
    """An interval behind a figure."""
    return "" if interval is None else f" ({short(interval[0])} to {short(interval[1])})"


def signed(difference: float, interval: tuple[float, float]) -> str:
    """A difference with its sign and its interval, all with as many places."""
    low, high = interval
    return f"{difference:+.4f} ({low:+.4f} to {high:+.4f})"


def _lines(table: Table) -> list[str]:
    cells = [[on_one_line(cell) for cell in row] for row in (table.heads, *table.rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(table.heads))]
    lines = [f"{on_one_line(table.title)}:"] if table.title else []
    for name, *rest in cells:
        padded = [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append(GAP.join(padded).rstrip())
    return lines


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
