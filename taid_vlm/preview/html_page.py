"""A preview as one HTML page that needs nothing else: no script, no network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from taid_vlm.common.pages import data_uri, page_template
from taid_vlm.preview.schema import Left, Piece, Preview
from taid_vlm.preview.tokens import SIGNS, shortened

PIECES = 4000  # of a rendering that are shown
FOLDER = Path(__file__).parent


def page(preview: Preview) -> str:
    """The page; it is well-formed XML as well, and all text of the data is escaped in it."""
    filters: dict[str, Callable[..., Any]] = {"data_uri": data_uri, "runs": runs, "share": _share, "number": _number}
    template = page_template(FOLDER, "page", filters, SIGNS)
    figures = preview.figures
    most = max((count for one in figures.histogram for count in one.counts.values()), default=1)
    dropped = sum(one.count for one in figures.dropped)
    return template.render(preview=preview, figures=figures, most=most, dropped=dropped)


def runs(pieces: list[Piece]) -> list[tuple[bool, list[Piece | Left]]]:
    """Shortened pieces, those that are supervised alike in a row together."""
    found: list[tuple[bool, list[Piece | Left]]] = []
    for piece in shortened(pieces, PIECES):
        taught = isinstance(piece, Piece) and piece.supervised
        if not found or found[-1][0] != taught:
            found.append((taught, []))
        found[-1][1].append(piece)
    return found


def _share(value: float) -> str:
    return f"{value:.1%}"


def _number(value: int) -> str:
    return f"{value:,}"
