"""An answer as a file that needs nothing else: a page, or its charts as one picture. All text is escaped; both are light or dark."""

from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup, escape

from taid_vlm.analysis.found import Found
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm.common.pages import STYLE as PAGE_STYLE
from taid_vlm.common.pages import page_template
from taid_vlm.common.visible import on_one_line
from taid_vlm.report.chart import HEIGHT, STYLE, WIDTH, Chart, Line, draw

FOLDER = Path(__file__).parent
AIR, LINE = 20, 18  # pixels around a chart of a picture, and of a line of text
COLUMNS = 2
PICTURE_STYLE = (
    f"svg.chart {{ width: {WIDTH}px; height: {HEIGHT}px; }}"
    + """
.paper { fill: var(--page); }
.words { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; font-size: 12px; fill: var(--text); }
.words .title { font-size: 14px; font-weight: 600; }
.words .muted { fill: var(--muted); }
.chart text { font-family: system-ui, sans-serif; }
"""
)


def write(found: Found, target: Path) -> Path:
    """Write a page (``.html``) or a picture (``.svg``), by the name of the file.

    Raises:
        UserError: it has another ending, or no space is left.
    """
    check_name(target)
    write_atomic(target, page(found) if target.suffix.lower() in (".html", ".htm") else picture(found))
    return target


def check_name(target: Path) -> None:
    """Before the work is done.

    Raises:
        UserError: a file name that is neither a page's nor a picture's.
    """
    if target.suffix.lower() not in (".html", ".htm", ".svg"):
        raise UserError(
            f"{target} ends in {target.suffix or 'nothing'!r}, expected .html for a page or .svg for the charts alone"
        )


def page(found: Found) -> str:
    """The page."""
    return page_template(FOLDER, "page", styles=(STYLE,)).render(found=found, drawn=_drawn(found))


def picture(found: Found) -> str:
    """The charts with their legends, two beside each other."""
    drawn = [(chart, svg) for chart, svg in _drawn(found) if svg]
    columns = min(COLUMNS, max(1, len(drawn)))
    width = columns * (WIDTH + AIR) + AIR
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    parts: list[str] = []
    y = AIR + LINE
    for row in rows:
        for column, (chart, svg) in enumerate(row):
            parts += _panel(chart, svg, AIR + column * (WIDTH + AIR), y)
        y += max(_height(chart) for chart, _ in row) + AIR
    style = "".join(file.read_text(encoding="utf-8") for file in (PAGE_STYLE, STYLE)) + PICTURE_STYLE
    title = _text(found.title)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" role="img" aria-label="{title}">'
        f'<title>{title}</title><style>{style}</style><rect class="paper" width="{width}" height="{y}"/>'
        f'<text class="words" x="{AIR}" y="{AIR}"><tspan class="title">{title}</tspan></text>'
    )
    return f"{head}{''.join(parts)}</svg>\n"


def _drawn(found: Found) -> list[tuple[Chart, Markup]]:
    """Every chart with its SVG, which is empty where there is nothing to draw."""
    return [(chart, draw(chart, f"chart-{place}")) for place, chart in enumerate(found.charts)]


def _panel(chart: Chart, svg: Markup, x: int, y: int) -> Iterator[str]:
    """Title and unit, the chart, the name of its horizontal axis, and a line for each of its lines; what is too long is cut off."""
    unit = chart.unit + (", logarithmic" if chart.log else "")
    below = 2 * LINE + HEIGHT
    yield f'<svg x="{x}" y="{y}" width="{WIDTH}" height="{_height(chart)}">'
    yield (
        f'<g class="words"><text class="title" y="12">{_text(chart.title)}</text><text class="muted" y="{12 + LINE}">{_text(unit)}</text>'
        f'<text class="muted" x="{WIDTH - 8}" y="{below + 12}" text-anchor="end">{_text(chart.x_title)}</text></g>'
    )
    place = Markup(f'<svg y="{2 * LINE}" width="{WIDTH}" height="{HEIGHT}" class="chart"')
    yield svg.replace('<svg class="chart"', place, 1)
    for number, line in enumerate(chart.lines):
        yield _legend(line, below + LINE * (number + 1))
    yield "</svg>"


def _legend(line: Line, y: int) -> str:
    return (
        f'<g class="chart c{line.colour % 8}"><path class="{line.style}" d="M0 {y + 9}h24"/></g>'
        f'<text class="words" x="32" y="{y + 13}">{_text(line.name)}</text>'
    )


def _height(chart: Chart) -> int:
    return 2 * LINE + HEIGHT + LINE * (len(chart.lines) + 1)


def _text(text: str) -> str:
    return str(escape(on_one_line(text)))
