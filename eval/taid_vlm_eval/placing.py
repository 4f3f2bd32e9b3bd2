"""Where the pictures of a question stand in its text."""

import re

from taid_vlm_eval.style import Style

Layout = tuple[str | int, ...]
_MARK = re.compile(r"<image (\d+)>")


def place_images(text: str, count: int, style: Style) -> tuple[str, list[int], Layout]:
    """The text, which pictures are shown in what order, and the layout of a request ("" is before the text, all of them).

    Returns:
        The texts of the layout put together; places among the ``count`` pictures of the item, where one may come twice and
        another never; and the layout, whose numbers are places among *these*.
    """
    everything = list(range(count))
    if style.images == "labelled" and count > 1:
        return _layout(
            [part for place in everything for part in (style.label.format(number=place + 1), place)] + [text]
        )
    if style.images == "marks" and (named := _named(text, count)):
        return _layout(named)
    if style.images == "numbered" and count > 0:
        return _layout(_numbered(text, count, style))
    return text, everything, ()


def _layout(parts: list[str | int]) -> tuple[str, list[int], Layout]:
    order: list[int] = []
    layout: list[str | int] = []
    for part in parts:
        if isinstance(part, int):
            layout.append(len(order))
            order.append(part)
        elif part:
            layout.append(part)
    return "".join(part for part in layout if isinstance(part, str)), order, tuple(layout)


def _named(text: str, count: int) -> list[str | int]:
    """The text, cut at "<image 2>"; nothing when it has no such mark. One of a picture that is not there stays text."""
    parts: list[str | int] = []
    end = 0
    for mark in _MARK.finditer(text):
        if 1 <= int(mark[1]) <= count:
            parts += [text[end : mark.start()], int(mark[1]) - 1]
            end = mark.end()
    return [*parts, text[end:]] if parts else []


def _numbered(text: str, count: int, style: Style) -> list[str | int]:
    """All pictures behind their labels, a line each; in the text, " <image 1> " for the first that is named, and so on."""
    parts = _named(text, count) or [*range(count), text]
    shown = [part for part in parts if isinstance(part, int)]
    body, number = "", 0
    for part in parts:
        number += isinstance(part, int)
        body += f" <image {number}> " if isinstance(part, int) else _replaced(part.strip(), style).strip()
    labelled: list[str | int] = ["Question: "]
    for number, place in enumerate(shown, start=1):
        labelled += [style.label.format(number=number), place, "\n"]
    return [*labelled, body]


def _replaced(piece: str, style: Style) -> str:
    for old, new in style.replace_in_pieces.items():
        piece = piece.replace(old, new)
    return piece
