"""From the messages of lmms-eval to a request of ours."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.common.picture_rgb import as_rgb
from taid_vlm_eval.data.pictures import BrokenImageError, open_picture
from taid_vlm_eval.models.protocol import Request

Message = Mapping[str, Any]


def as_request(messages: Sequence[Message], stops: tuple[str, ...] = ()) -> Request:
    """A conversation whose last question is to be answered, or whose last answer is to be gone on from.

    What the system says is put before the words of the first question, an empty line between them: not every model's template has a
    place for it.

    Raises:
        UserError: pictures in more than one turn, videos, sounds, turns that do not alternate, or a picture that does not read.
    """
    turns = [(str(one["role"]), _parts(one["content"])) for one in messages]
    system = [part for role, parts in turns if role == "system" for part in parts]
    turns = [turn for turn in turns if turn[0] != "system"]
    start = _text(turns.pop()[1]) if turns and turns[-1][0] == "assistant" else ""
    if [role for role, _ in turns] != ["user", "assistant"] * (len(turns) // 2) + ["user"]:
        raise UserError(f"a conversation of {', '.join(str(one['role']) for one in messages)} ends in no question")
    if system:
        parts = turns[0][1]
        words = next((place for place, part in enumerate(parts) if isinstance(part, str)), len(parts))
        turns[0] = ("user", [*parts[:words], *system, "\n\n", *parts[words:]])
    showing = [place for place, (_, parts) in enumerate(turns) if any(not isinstance(part, str) for part in parts)]
    if len(showing) > 1:
        raise UserError("a conversation has pictures in several turns; expected them in one")
    texts = [_text(parts) for _, parts in turns]
    earlier = tuple(zip(texts[:-1:2], texts[1:-1:2], strict=True))
    parts = turns[showing[0]][1] if showing else turns[-1][1]
    images = [_opened(part) for part in parts if not isinstance(part, str)]
    layout = _layout(parts)
    if showing and showing[0] != len(turns) - 1 and (showing[0] != 0 or layout):
        raise UserError(
            "pictures of an earlier turn that is not the first, or between its words; expected them to open it"
        )
    return Request(
        texts[-1],
        images,
        keys=tuple(map(picture_key, images)),
        earlier=earlier,
        layout=layout,
        answer_start=start,
        stops=stops,
    )


def picture_key(image: Image.Image) -> str:
    """Equal for pictures of equal pixels."""
    return hashlib.sha256(f"{image.size} {image.mode} ".encode() + image.tobytes()).hexdigest()


def _parts(content: Any) -> list[Any]:
    """Texts, and what else there is."""
    if isinstance(content, str):
        return [content]
    found = []
    for part in content:
        if part["type"] == "text":
            found.append(part["text"])
        elif part["type"] == "image":
            found.append(_Picture(part["url"]))
        else:
            raise UserError(f"the task shows a {part['type']}; models here read pictures and text")
    return found


class _Picture:
    def __init__(self, source: Any) -> None:
        self.source = source


def _opened(part: _Picture) -> Image.Image:
    try:
        if isinstance(part.source, Image.Image):
            return as_rgb(part.source)
        return open_picture(Path(str(part.source)))
    except BrokenImageError as error:
        raise UserError(str(error)) from error


def _text(parts: Sequence[Any]) -> str:
    return "".join(part for part in parts if isinstance(part, str))


def _layout(parts: Sequence[Any]) -> tuple[str | int, ...]:
    """Where pictures stand in the text; nothing where all stand before it."""
    kinds = [isinstance(part, str) for part in parts]
    if kinds == sorted(kinds):
        return ()
    found: list[str | int] = []
    count = 0
    for part in parts:
        if isinstance(part, str):
            found.append(part)
        else:
            found.append(count)
            count += 1
    return tuple(found)
