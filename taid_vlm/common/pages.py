"""Pages that need nothing else: templates whose text is escaped and shown rather than obeyed, and pictures inside of the page."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from taid_vlm.common.visible import BREAKS, visible

STYLE = Path(__file__).parent / "page.css"  # colours, text and tables of all pages


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
