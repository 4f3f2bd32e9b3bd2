"""From what data sets put into a picture column to pictures."""

import base64
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from PIL import Image

from taid_vlm.data.pictures import Picture, PictureBytes, PictureInArchive, PictureInTable, picture_in_memory
from taid_vlm.data.record import BadSampleError
from taid_vlm.data.sources.rows import shown

URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


def pictures_of(cell: Any, folder: Path, place: str) -> tuple[Picture, ...]:
    """The pictures of a cell: none, one, or a list of paths, bytes, ``{bytes, path}``, PIL images, or pictures already.

    Args:
        folder: where relative paths start.

    Raises:
        BadSampleError: anything else; URLs are not fetched. ``data:`` and ``file:`` need not be.
    """
    if cell is None or cell == "":
        return ()
    if not isinstance(cell, (list, tuple)):
        return (_picture(cell, folder, f"{place} picture"),)
    return tuple(_picture(one, folder, f"{place} picture {index + 1}") for index, one in enumerate(cell))


def _picture(one: Any, folder: Path, place: str) -> Picture:
    if isinstance(one, dict) and (one.get("bytes") is not None or one.get("path") is not None):
        one = one["bytes"] if one.get("bytes") is not None else one["path"]
    if isinstance(one, str):
        return _decoded(one, place) if one[:5].lower() == "data:" else _path(one, folder, place)
    if isinstance(one, bytes):
        return PictureBytes(one, place)
    if isinstance(one, Image.Image):
        return picture_in_memory(one, place)
    if isinstance(one, (Path, PictureBytes, PictureInArchive, PictureInTable)):
        return one
    raise BadSampleError(f"{place} is {shown(one)}; expected a path, or bytes", "wrong type")


def _path(name: str, folder: Path, place: str) -> Path:
    if name.startswith("file:///"):
        name = unquote(name.removeprefix("file://"))
    if URL.match(name):
        raise BadSampleError(
            f"{place} is a URL: {shown(name)}; pictures are not fetched in training, for what an address gives changes. "
            f"Download them once and give paths",
            "picture by URL",
        )
    if not name or "\0" in name:
        raise BadSampleError(f"{place} has no usable path: {shown(name)}", "wrong type")
    return folder / name


def _decoded(url: str, place: str) -> PictureBytes:
    """The content of a ``data:`` URL (RFC 2397), which is judged when it is opened."""
    about, comma, content = url.partition(",")
    try:
        if not comma:
            raise ValueError("no comma before its content")
        data = unquote_to_bytes(content)
        if about.lower().endswith(";base64"):
            data = base64.b64decode(b"".join(data.split()), validate=True)
    except ValueError as error:
        raise BadSampleError(f"{place} is a broken data: URL ({error}): {shown(url)}", "broken picture") from error
    return PictureBytes(data, place)
