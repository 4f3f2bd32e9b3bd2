"""Prompts with pictures, put together from parts: each picture is preprocessed alone and once, whatever is asked about it.

A processor of transformers takes pictures and text at the same time, and reads the pixels again for every question. Here it reads each
picture alone, with a text that is nothing but its placeholder, and what it writes in that place is put into the text of every question.
The first conversation of each kind is given to the processor as a whole as well: where the tokens differ in anything, that kind of
conversation is left to the processor.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any

from jinja2 import TemplateError
from PIL import Image
from torch import Tensor

from taid_vlm_eval.models.conversation import images_as_read, with_parts
from taid_vlm_eval.models.faults import UnaskableError
from taid_vlm_eval.models.features import features_in_place
from taid_vlm_eval.models.padding import left_padded, masked
from taid_vlm_eval.models.pictures import BatchPictures, Picture, PictureCache
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.models.tiles import tiles_arguments

TYPES = ("token_type_ids", "mm_token_type_ids")


@dataclass(frozen=True)
class Assembled:
    """Tokens of a batch, not padded, and the pictures of each row.

    Attributes:
        types: what kind of token each is, where the model asks; then under the name ``types_name``.
    """

    ids: list[list[int]]
    types: list[list[int]]
    types_name: str
    pictures: list[tuple[Picture, ...]]


@dataclass(frozen=True)
class Way:
    """How the text of a kind of conversation is tokenised, as the processor was seen to do it."""

    add_special_tokens: bool
    types_name: str


class Assembler:
    """Puts prompts together as one processor would, with the pictures that ``cache`` knows."""

    def __init__(self, cache: PictureCache) -> None:
        self._cache = cache
        self._lock = Lock()
        self._ways: dict[tuple[int, int | None], Way | None] = {}

    def assemble(self, processor: Any, requests: Sequence[Request]) -> tuple[list[int], Assembled]:
        """Which of the requests can be put together, and those."""
        pictures = BatchPictures(self._cache)
        done, name, made = [], "", Assembled([], [], "", [])
        for index, request in enumerate(requests):
            if (row := self._row(processor, request, pictures)) is None:
                continue
            ids, types, shown, way = row
            done.append(index)
            made.ids.append(ids)
            made.types.append(types or [0] * len(ids))  # where only prompts with images have types, 0 is text
            made.pictures.append(shown)
            name = name or way.types_name
        return done, replace(made, types_name=name)

    def _row(
        self, processor: Any, request: Request, known: BatchPictures
    ) -> tuple[list[int], list[int], tuple[Picture, ...], Way] | None:
        """Tokens and their types, the pictures, and how they were made; None for what is left to the processor."""
        order = images_as_read(request)
        kind = (len(order), request.max_tiles if order else None)
        if kind in self._ways and self._ways[kind] is None:
            return None
        pictures = tuple(
            known.get(request, place, partial(read_picture, processor, request.images[place], request.max_tiles))
            for place in order
        )
        with self._lock:
            if kind not in self._ways:
                self._ways[kind] = _find_way(processor, request, pictures)
            way = self._ways[kind]
        text = _text(processor, request, pictures)
        if way is None or text is None:
            return None
        ids, types = _tokens(processor, text, way)
        return ids, types, pictures, way


def read_picture(processor: Any, image: Image.Image, max_tiles: int | None) -> Picture:
    """A picture as the processor reads it when it is alone.

    Raises:
        ValueError: its tokens are not those of any text.
    """
    out = processor(
        images=[[image]],
        text=[processor.image_token],
        images_kwargs=tiles_arguments(processor, max_tiles),
        text_kwargs={"add_special_tokens": False},
        return_tensors="pt",
    )
    ids = out.pop("input_ids")[0].tolist()
    text = processor.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if processor.tokenizer(text, add_special_tokens=False)["input_ids"] != ids:
        raise ValueError("the tokens that stand for an image are not those of their text")
    pixels = {key: value for key, value in out.items() if key not in ("attention_mask", *TYPES)}
    small = {key: value for key, value in pixels.items() if key == "image_grid_thw"}
    return Picture(text, pixels, small)


@contextmanager
def padded(
    model: Any, batch: Assembled, padding: int, rows: Sequence[int], ends: Sequence[int]
) -> Iterator[dict[str, Tensor]]:
    """Arguments of a forward pass over rows of a batch, each up to its place in ``ends``: padded on the left, on the model's device.

    Within the context, the model reads the rows' pictures, which are encoded.
    """
    inputs = masked(left_padded([batch.ids[row][: ends[row]] for row in rows]), padding)
    if batch.types_name:
        inputs[batch.types_name] = left_padded([batch.types[row][: ends[row]] for row in rows], 0)
    with features_in_place(model, [one for row in rows for one in batch.pictures[row]]) as more:
        yield {key: value.to(model.device) for key, value in inputs.items()} | more


def whole(processor: Any, requests: Sequence[Request]) -> Any:
    """The plain twin: all requests, which have equal ``max_tiles``, given to the processor at once.

    Raises:
        UnaskableError: a question that contains the placeholder of an image.
    """
    texts = [rendered(processor, request) for request in requests]
    for request, text in zip(requests, texts, strict=True):
        place = getattr(processor, "image_token", None)
        if isinstance(place, str) and text.count(place) > len(images_as_read(request)):
            raise UnaskableError(
                f"a prompt has more places for images ({place!r}) than its {len(request.images)} images: {request.prompt[:80]!r}; "
                f"take the placeholder out of the question, images come before it"
            )
    more: dict[str, Any] = {}
    opening = processor.tokenizer.bos_token
    if opening is not None and texts[0].startswith(opening):
        more["add_special_tokens"] = False  # the template has written it
    if requests[0].images:
        more["images"] = [[request.images[place] for place in images_as_read(request)] for request in requests]
        more["images_kwargs"] = tiles_arguments(processor, requests[0].max_tiles)
    return processor(text=texts, padding=True, return_tensors="pt", **more)


def rendered(processor: Any, request: Request) -> str:
    """The prompt as the chat template writes it, with one placeholder for each picture, up to where the model goes on."""
    conversation = with_parts(request, answers_as_text=bool(request.earlier) and _answers_are_text(processor))
    text = processor.apply_chat_template([conversation], add_generation_prompt=True, tokenize=False)[0]
    return text + request.answer_start


def _answers_are_text(processor: Any) -> bool:
    """Whether the chat template writes an answer that is plain text; the others want a list of parts there too."""
    probe = with_parts(Request("", earlier=(("", "\N{SECTION SIGN}answer"),)), answers_as_text=True)
    try:
        return "\N{SECTION SIGN}answer" in processor.apply_chat_template([probe], tokenize=False)[0]
    except (TypeError, TemplateError):
        return False


def _text(processor: Any, request: Request, pictures: Sequence[Picture]) -> str | None:
    """The prompt with the texts of the pictures in it; None where their places cannot be told."""
    text = rendered(processor, request)
    pieces = text.split(processor.image_token)
    if len(pieces) != len(pictures) + 1:
        return None
    return pieces[0] + "".join(one.text + piece for one, piece in zip(pictures, pieces[1:], strict=True))


def _tokens(processor: Any, text: str, way: Way) -> tuple[list[int], list[int]]:
    ids = processor.tokenizer(text, add_special_tokens=way.add_special_tokens)["input_ids"]
    return ids, processor.create_mm_token_type_ids([ids])[0] if way.types_name else []


def _find_way(processor: Any, request: Request, pictures: Sequence[Picture]) -> Way | None:
    """The way whose tokens are those of the processor for this very request; None where there is none."""
    text = _text(processor, request, pictures)
    if text is None:
        return None
    truth = whole(processor, [request])
    names = [name for name in TYPES if name in truth]
    if len(names) > 1:
        return None
    for special in (True, False):
        way = Way(special, names[0] if names else "")
        ids, types = _tokens(processor, text, way)
        if ids == truth["input_ids"][0].tolist() and (not names or types == truth[names[0]][0].tolist()):
            return way
    return None
