"""A request as a conversation, the form that chat templates take."""

from typing import Any

from PIL import Image

from taid_vlm_eval.models.protocol import Request


def with_parts(request: Request, answers_as_text: bool = False) -> list[dict[str, Any]]:
    """Messages whose contents are lists of parts, for processors.

    The pictures open the first turn; where the request has a layout, they stand in its own turn, as the layout says.

    Args:
        answers_as_text: what the model answered in earlier turns is plain text.
    """
    said = (lambda text: text) if answers_as_text else _texts
    turns = [(_texts(question), said(answer)) for question, answer in request.earlier]
    asked = _texts(request.prompt)
    if request.layout:
        asked = [_image(request.images[part]) if isinstance(part, int) else _text(part) for part in request.parts()]
    elif turns:
        turns[0] = ([*map(_image, request.images), *turns[0][0]], turns[0][1])
    else:
        asked = [*map(_image, request.images), *asked]
    return _messages(turns, asked)


def as_text(request: Request) -> list[dict[str, Any]]:
    """Messages whose contents are plain text, for tokenizers."""
    return _messages(list(request.earlier), request.prompt)


def without_template(request: Request) -> str:
    """For a model that has no chat template: all turns, one after the other, a line between them."""
    return "\n".join([text for turn in request.earlier for text in turn] + [request.prompt]) + request.answer_start


def images_as_read(request: Request) -> list[int]:
    """Places in ``images``, in the order that the model reads them."""
    return [part for part in request.parts() if isinstance(part, int)]


def _messages(turns: list[Any], asked: Any) -> list[dict[str, Any]]:
    messages = []
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [*messages, {"role": "user", "content": asked}]


def _texts(text: str) -> list[dict[str, Any]]:
    return [_text(text)]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(image: Image.Image) -> dict[str, Any]:
    return {"type": "image", "image": image}
