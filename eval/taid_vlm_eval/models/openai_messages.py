"""A request as the messages of OpenAI's chat format, which vLLM reads as well."""

import base64
from collections.abc import Callable
from io import BytesIO
from typing import Any

from PIL import Image

from taid_vlm_eval.cannot_ask import CannotAskError
from taid_vlm_eval.models.conversation import with_parts
from taid_vlm_eval.models.protocol import Request

Part = dict[str, Any]


def messages_of(request: Request, picture: Callable[[Image.Image], Part]) -> list[dict[str, Any]]:
    """Turns of user and assistant, see :func:`with_parts`.

    Args:
        picture: from an image to the part of a message that holds it.

    Raises:
        CannotAskError: the request limits tiles, or is plain, neither of which this format can say.
    """
    if request.plain or request.ids:
        raise CannotAskError(
            "the prompt stands outside any chat template, and a served model is asked in one only; evaluate the checkpoint here "
            "with transformers, or choose a task that asks in the template"
        )
    if request.max_tiles is not None:
        raise CannotAskError(
            f"the protocol allows {request.max_tiles} tiles per image, and a served model cannot be told so; set the limit "
            f"where the model is served, and evaluate without this protocol"
        )
    return [{**message, "content": _content(message["content"], picture)} for message in with_parts(request)]


def _content(parts: list[Part], picture: Callable[[Image.Image], Part]) -> str | list[Part]:
    # Text alone goes as text: not every server of a language model reads parts.
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return [picture(part["image"]) if part["type"] == "image" else part for part in parts]


def as_data_url(image: Image.Image) -> Part:
    """PNG, so that the server decodes the very pixels that were decoded here; the least compression, since it is the fastest."""
    file = BytesIO()
    image.save(file, "PNG", compress_level=1)
    encoded = base64.b64encode(file.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}
