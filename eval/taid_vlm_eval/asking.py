"""From an item to what a model is asked: the one place where a question, the task's prompt and a protocol's style meet."""

import hashlib
import io
import re
from collections.abc import Callable, Sequence

from PIL import Image

from taid_vlm_eval.data.item import Item, open_images
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.placing import place_images
from taid_vlm_eval.style import Style, Wording
from taid_vlm_eval.task import Task
from taid_vlm_eval.ways import earlier_turns, texts_of

_CHINESE = re.compile("[\u4e00-\u9fff]")
_LETTERED = ("A.", "B.")


def text_of(item: Item, task: Task, style: Style | None = None) -> str:
    """What the model reads, before its own chat template, but for names of images (see :func:`place_images`).

    Args:
        style: the task's own when left out.
    """
    wording = (style or task.style).wording
    if wording.text:
        return worded(item, wording)
    return task.prompt.prefix + item.question + task.prompt.suffix


def worded(item: Item, wording: Wording) -> str:
    """The question of an item, put together by templates."""
    question, options = item.bare or item.question, item.facts.get("options") or {}
    hint = wording.hint.format(hint=item.hint) if item.hint else ""
    lines = "\n".join(wording.line.format(letter=letter, text=text) for letter, text in options.items())
    chinese = _CHINESE.search(hint + question + lines) is not None
    if options:
        tail = ((chinese and wording.options_zh) or wording.options).format(lines=lines)
    else:
        tail = (chinese and wording.open_zh) or wording.open
    text = wording.text.format(hint=hint, question=question, options=tail)
    text = text.strip() if wording.strip else text
    for old, new in wording.replace.items():
        text = text.replace(old, new)
    return wording.before + (text.strip() if wording.strip else text) + wording.behind


def tiles_of(style: Style, images: int) -> int | None:
    """How many tiles each of so many images may become."""
    if style.max_tiles is None or style.tiles_in_all is None or images == 0:
        return style.max_tiles
    return max(1, min(style.max_tiles, style.tiles_in_all // images))


def request_of(
    item: Item,
    task: Task,
    style: Style | None = None,
    keys: Sequence[str] = (),
    opened: Callable[[Item], list[Image.Image]] = open_images,
) -> Request:
    """The request, with the pictures decoded.

    Args:
        style: the task's own when left out.
        keys: of the pictures as they lie in their files, see :class:`Request`; one that the style changes gets another key.
        opened: decodes the pictures of an item.

    Raises:
        BrokenImageError: see :func:`open_images`.
    """
    style = style or task.style
    images = opened(item)
    text, order, layout = place_images(text_of(item, task, style), len(images), style)
    shown, shown_keys = [], []
    for place in order:
        image, change = _changed(images[place], place == 0, len(images) == 1, style)
        shown.append(image)
        if keys:
            shown_keys.append(hashlib.sha256(f"{keys[place]} {change}".encode()).hexdigest() if change else keys[place])
    begins = style.answer_starts == "always" or all(mark in text for mark in _LETTERED)
    return Request(
        text,
        shown,
        keys=tuple(shown_keys),
        max_tiles=tiles_of(style, len(shown)),
        layout=layout,
        answer_start=style.answer_start if begins else "",
        earlier=earlier_turns(item),
        texts=texts_of(item, task),
        plain=not task.template,
    )


def _changed(image: Image.Image, is_first: bool, is_single: bool, style: Style) -> tuple[Image.Image, str]:
    """The image as the style wants it, and what was done to it, "" for nothing."""
    change = ""
    if style.jpeg and is_single:
        stream = io.BytesIO()
        image.save(stream, "JPEG")  # Pillow's own quality, 75
        image, change = Image.open(stream).convert("RGB"), "jpeg"
    if style.first_image_scale > 1 and is_first:
        size = (image.width * style.first_image_scale, image.height * style.first_image_scale)
        image, change = image.resize(size, Image.Resampling.BILINEAR), f"{change} x{style.first_image_scale}"
    return image, change
