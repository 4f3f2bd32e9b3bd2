"""What is shown of data in a page or a terminal: pictures inside of the page, and text that is not obeyed."""

import base64
import io
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

STYLE = Path(__file__).parent / "page.css"  # colours, text and tables of all pages
JOINERS = "\u200c\u200d"  # invisible, but words of some scripts and many emoji are written with them
BREAKS = {"\n": "\n", "\t": "\t"}


def page_template(
    folder: Path,
    name: str,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    breaks: Mapping[str, str] = BREAKS,
    styles: Sequence[Path] = (),
) -> Template:
    """A page's template, ``<name>.html.jinja``; its variable ``style`` is the style of all pages and its own, ``<name>.css``.

    All text is escaped and made visible, so that pages are well-formed XML whatever the data says.

    Args:
        filters: of the template, by name.
        breaks: what stands for line breaks and tabs.
        styles: files that stand between the style of all pages and its own.
    """

    def safe(value: Any) -> Any:
        return visible(value, breaks) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=safe
    )
    environment.filters |= filters or {}
    files = (STYLE, *styles, folder / f"{name}.css")
    environment.globals["style"] = Markup("".join(path.read_text(encoding="utf-8") for path in files))
    return environment.from_string((folder / f"{name}.html.jinja").read_text(encoding="utf-8"))


def data_uri(image: Any) -> str:
    """A picture of Pillow as PNG or JPEG, whichever is smaller."""
    encoded = {}
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 85})):
        file = io.BytesIO()
        image.save(file, kind, **options)
        encoded[kind] = file.getvalue()
    kind = min(encoded, key=lambda name: len(encoded[name]))
    return f"data:image/{kind};base64,{base64.b64encode(encoded[kind]).decode()}"


def visible(text: str, breaks: Mapping[str, str] = BREAKS) -> str:
    """Text without anything that an output would obey rather than show: controls, direction marks, lone surrogates.

    Args:
        breaks: what stands for line breaks and tabs.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(breaks[character] if character in breaks else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    never = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE  # not characters, and not allowed in XML
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp") and character not in JOINERS
    return character.encode("unicode_escape").decode() if never or hidden else character
