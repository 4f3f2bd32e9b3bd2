"""A line chart as SVG: axes, lines, error bars, a legend and the figures as a table. No script, no other file."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from markupsafe import Markup, escape

from taid_vlm.common.visible import visible
from taid_vlm.report.scale import Scale, fitted, short, shows

STYLE = Path(__file__).parent / "chart.css"
WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 10, 24
DIGIT = 6.6  # pixels of a character of an axis
BESIDE = 6  # pixels between the error bars of lines that have one at the same place
POINTS = 250  # more would lie on the same pixels
ROWS = 12  # of the table


@dataclass(frozen=True)
class Line:
    """One line; ``colour`` is a number of the palette in chart.css.

    Attributes:
        intervals: of each point, drawn as error bars; such a line has visible points that say their figures.
        smoothed: draw the values pale and their running mean strong.
        style: ``solid``, ``dashed`` or ``dotted``.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    intervals: Sequence[tuple[float, float]] = ()
    smoothed: bool = False
    style: str = "solid"


@dataclass(frozen=True)
class Chart:
    """What a chart shows; ``unit`` is of the vertical axis, ``about`` a sentence on how to read it.

    Attributes:
        bounds, x_bounds: ends of the vertical and of the horizontal axis, in place of what the values need.
        missing: names of runs without such figures.
    """

    title: str
    unit: str
    lines: Sequence[Line]
    about: str = ""
    log: bool = False
    bounds: tuple[float, float] | None = None
    x_title: str = "optimizer step"
    x_bounds: tuple[float, float] | None = None
    missing: Sequence[str] = field(default_factory=tuple)

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heads and rows: the figures of all lines at a few places."""
        places = sorted({x for line in self.lines for x in line.x})
        if len(places) > ROWS:
            chosen = [round(at * (len(places) - 1) / (ROWS - 1)) for at in range(ROWS)]
            places = [places[at] for at in chosen]
        known = [{x: _cell(line, at) for at, x in enumerate(line.x)} for line in self.lines]
        rows = [[short(x), *(of.get(x, "") for of in known)] for x in places]
        return [self.x_title, *(line.name for line in self.lines)], rows


def draw(chart: Chart, key: str) -> Markup:
    """The SVG of a chart.

    Args:
        key: unique in the page, for the names of its parts.
    """
    values = [y for line in chart.lines for y in line.y]
    values += [end for line in chart.lines for pair in line.intervals for end in pair]
    shown = [value for value in values if shows(value, chart.log)]
    if not shown:
        return Markup("")
    ends, bounds = (LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP)
    every_x = [x for line in chart.lines for x in line.x]
    # Room beside the first and the last.
    margin = 0.05 if sum(bool(line.intervals) for line in chart.lines) > 1 else 0.0
    across = Scale(*chart.x_bounds, *ends) if chart.x_bounds else fitted(every_x, *ends, margin=margin)
    up = Scale(*chart.bounds, *bounds) if chart.bounds else fitted(_middle(shown, chart), *bounds, log=chart.log)
    x_title = chart.x_title.removeprefix("optimizer ")
    lines = [part for line in chart.lines for part in _drawn(line, _beside(line, chart, across), up, x_title)]
    # What is in a picture cannot be reached; what is in a group can.
    role = "group" if any(line.intervals for line in chart.lines) else "img"
    head = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="{role}" aria-labelledby="{key}-t {key}-d">'
        f'<title id="{key}-t">{_text(chart.title)}</title><desc id="{key}-d">{_text(described(chart))}</desc>'
        f'<clipPath id="{key}-c"><rect x="{LEFT - 4}" y="{TOP - 4}" width="{WIDTH - LEFT + 4}" height="{HEIGHT - TOP - BOTTOM + 8}"/></clipPath>'
    )
    return Markup(f'{head}{_axes(across, up)}<g clip-path="url(#{key}-c)">{"".join(lines)}</g></svg>')


def described(chart: Chart) -> str:
    """What a chart shows, in words."""
    told = []
    for line in chart.lines:
        pairs = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
        if pairs:
            (x0, y0), (x1, y1) = pairs[0], pairs[-1]
            low, high = min(y for _, y in pairs), max(y for _, y in pairs)
            told.append(
                f"{line.name}: {short(y0)} at {short(x0)}, {short(y1)} at {short(x1)}, from {short(low)} to {short(high)} in all."
            )
    return f"{chart.unit} by {chart.x_title}. " + " ".join(told)


def smoothed(values: Sequence[float], log: bool = False) -> list[float]:
    """Mean of each value and its neighbours, a fortieth of all in all (of their logarithms on such an axis); the window gets
    narrower towards both ends, so that a steep line is not bent. Values without a place on the axis stay as they are."""
    reach = max(1, len(values) // 80)
    sound = [shows(value, log) for value in values]
    inner = [
        math.log(value) if log else value for value in (v if s else 1.0 for v, s in zip(values, sound, strict=True))
    ]
    sums, counts = [0.0], [0]
    for value, good in zip(inner, sound, strict=True):
        sums.append(sums[-1] + (value if good else 0.0))
        counts.append(counts[-1] + good)
    out = []
    for at, value in enumerate(values):
        near = min(reach, at, len(values) - 1 - at)
        start, end = at - near, at + near + 1
        if not sound[at]:
            out.append(value)
            continue
        mean = (sums[end] - sums[start]) / (counts[end] - counts[start])
        out.append(math.exp(mean) if log else mean)
    return out


def _middle(values: Sequence[float], chart: Chart) -> Sequence[float]:
    """Values without the few wild ones of a long noisy line, which would press all others flat."""
    if chart.log or not any(line.smoothed for line in chart.lines) or len(values) < 50:
        return values
    ordered = sorted(values)
    cut = len(ordered) // 100
    low, high = ordered[cut], ordered[-1 - cut]
    air = (high - low) or 1.0
    return [value for value in values if low - air <= value <= high + air]


def _cell(line: Line, at: int) -> str:
    return short(line.y[at]) + (
        f" ({short(line.intervals[at][0])} to {short(line.intervals[at][1])})" if line.intervals else ""
    )


def _beside(line: Line, chart: Chart, across: Scale) -> Scale:
    """The horizontal scale, moved a little where several lines have error bars, so that none covers another."""
    barred = [one for one in chart.lines if one.intervals]
    if line not in barred:
        return across
    moved = (barred.index(line) - (len(barred) - 1) / 2) * min(BESIDE, 4 * BESIDE / len(barred))
    return replace(across, start=across.start + moved, end=across.end + moved)


def _axes(across: Scale, up: Scale) -> str:
    """Round values at the left and below; the table has them for those who do not see."""
    bottom, parts = HEIGHT - BOTTOM, []
    for tick in up.ticks():
        y = f"{up.place(tick):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y}" dy="0.35em" text-anchor="end">{_mark(tick)}</text>')
    for tick in across.ticks(7):
        said = _mark(tick)
        x = min(across.place(tick), WIDTH - DIGIT * len(said) / 2)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{said}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    return f'<g aria-hidden="true">{"".join(parts)}</g>'


def _mark(tick: float) -> str:
    return short(tick).replace("e-0", "e-")


def _drawn(line: Line, across: Scale, up: Scale, x_title: str) -> Iterator[str]:
    colour = f"c{line.colour % 8}"
    if line.smoothed and len(line.y) > 10:
        yield _path(thinned(line.x, line.y), across, up, f"{colour} pale")
        yield _path(thinned(line.x, smoothed(line.y, up.log)), across, up, f"{colour} {line.style}")
    else:
        yield _path(thinned(line.x, line.y), across, up, f"{colour} {line.style}")
    for index, (low, high) in enumerate(line.intervals):
        x, y = line.x[index], line.y[index]
        if not all(shows(value, up.log) for value in (low, y, high)):
            continue
        at, top, bottom = (f"{value:.1f}" for value in (across.place(x), up.place(high), up.place(low)))
        said = f"{line.name}, {x_title} {short(x)}: {short(y)} ({short(low)} to {short(high)})"
        yield (
            f'<g class="point {colour}" tabindex="0" role="img" aria-label="{_text(said)}"><title>{_text(said)}</title>'
            f'<line x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"/><circle cx="{at}" cy="{up.place(y):.1f}" r="4"/></g>'
        )


def _path(points: Sequence[tuple[float, float]], across: Scale, up: Scale, names: str) -> str:
    """A line that breaks where a value has no place."""
    steps, pen = [], "M"
    for x, y in points:
        if not shows(y, up.log):
            pen = "M"
            continue
        steps.append(f"{pen}{across.place(x):.1f} {up.place(y):.1f}")
        pen = "L"
    return f'<path class="{names}" d="{"".join(steps)}"/>' if steps else ""


def thinned(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    """At most about :data:`POINTS` points: of each stretch the lowest and the highest, so that no spike is lost; the ends stay."""
    points = list(zip(x, y, strict=True))
    size = -(-2 * len(points) // POINTS)
    if size <= 2:
        return points
    kept = [points[0]]
    for start in range(0, len(points), size):
        some = sorted(points[start : start + size], key=lambda point: point[1])
        wild = [point for point in some if not math.isfinite(point[1])][:1]  # a gap stays a gap
        sound = [point for point in some if math.isfinite(point[1])]
        kept += sorted({*sound[:1], *sound[-1:], *wild})
    return [*kept, points[-1]] if kept[-1] != points[-1] else kept


def _text(text: str) -> str:
    return str(escape(visible(text)))
