"""Parts of a message: words, and pictures, which a message may name itself.

``{"type": "image"}`` alone is a picture of the images column. The forms of transformers (``image``, ``path``, ``url`` or ``base64`` beside the
type) and of OpenAI (``{"type": "image_url", "image_url": {"url": ...}}``) hold theirs; it stands under ``HELD`` until it is taken out.
"""

from collections.abc import Sequence
from typing import Any

from taid_vlm.data.record import BadSampleError
from taid_vlm.data.sources.rows import shown

Message = dict[str, Any]
IMAGE = {"type": "image"}
HELD = "held"
INDEX = "index"  # a place in the column, as some sets have it beside the type
KEYS = ("image", "path", "url", "base64", "image_url")


def part_of(part: Any, place: str) -> dict[str, Any]:
    """``{"type": "text", "text"}`` or ``{"type": "image"}``, the latter with the picture where it has one.

    Raises:
        BadSampleError: anything else. The text is not judged here.
    """
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind in ("image", "image_url"):
        held = _held(part)
        if held is not None:
            return {**IMAGE, HELD: held}
        if kind == "image":
            return {**IMAGE, INDEX: part["index"]} if isinstance(part.get("index"), int) else dict(IMAGE)
    raise BadSampleError(
        f'{place}: a part of a message is {shown(part)}; expected {{"type": "text", "text": ...}}, {{"type": "image"}} for a '
        f'picture of the images column, or one that names it: {{"type": "image", "image": ...}}, {{"type": "image_url", ...}}',
        "wrong type",
    )


def taken_out(messages: Sequence[Message]) -> tuple[list[Message], list[Any], list[int | None]]:
    """The messages with bare image parts; and of each image part the picture that it holds and its place in the column, or None."""
    held: list[Any] = []
    places: list[int | None] = []
    out = []
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            pictures = [part for part in content if part["type"] == "image"]
            held += [part.get(HELD) for part in pictures]
            places += [part.get(INDEX) for part in pictures]
            content = [dict(IMAGE) if part["type"] == "image" else part for part in content]
        out.append({**message, "content": content})
    return out, held, places


def _held(part: dict[str, Any]) -> Any:
    for key in KEYS:
        value = part.get(key)
        if isinstance(value, dict) and "url" in value:
            value = value["url"]
        if isinstance(value, dict) and not any(cell is not None for cell in value.values()):
            value = None  # tables fill up parts of other types
        if value is not None:
            return f"data:;base64,{value}" if key == "base64" and isinstance(value, str) else value
    return None
