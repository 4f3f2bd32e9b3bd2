"""Requests as a student's own processor reads them: tokens and pixels. Threads may read at the same time."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from math import isqrt
from threading import local
from typing import Any

from PIL import Image

from taid_vlm_eval.models.conversation import images_as_read, with_parts
from taid_vlm_eval.models.likelihood import plain_ids
from taid_vlm_eval.models.pictures import BatchPictures, Picture, PictureCache
from taid_vlm_eval.models.protocol import Request


@dataclass(frozen=True)
class Rendered:
    """A batch, its tokens, and the pictures of each row."""

    requests: Sequence[Request]
    ids: list[list[int]]
    pictures: list[tuple[Picture, ...]]


class StudentReader:
    """Reads with copies of one processor.

    Args:
        processor: a student's; stays as it is.
        cache: of pictures that were read; None to read each picture anew with every request.
    """

    def __init__(self, processor: Any, cache: PictureCache | None) -> None:
        self._processor, self._cache = processor, cache
        self._own = local()  # processors for each thread: tokenizers must not be used by two at a time

    def read(self, requests: Sequence[Request]) -> Rendered:
        """Tokens up to where the model goes on, not padded, and the pictures, some of them encoded before."""
        pictures = BatchPictures(self._cache)
        rows = [self._row(request, pictures) for request in requests]
        return Rendered(requests, [ids for ids, _ in rows], [shown for _, shown in rows])

    def picture_tokens(self, width: int, height: int, max_tiles: int | None) -> int:
        """See :meth:`Measuring.picture_tokens`."""
        processor = self._of_this_thread(max_tiles)
        return int(processor.tiles_per_image((width, height)) * (processor.images.per_tile if processor.images else 0))

    def _row(self, request: Request, pictures: BatchPictures) -> tuple[list[int], tuple[Picture, ...]]:
        if request.plain:
            return plain_ids(self._of_this_thread(None).tokenizer, request), ()
        processor = self._of_this_thread(request.max_tiles)
        order = images_as_read(request)
        sizes = [request.images[place].size for place in order]
        turns = with_parts(request, answers_as_text=True)
        ids = list(processor.render(turns, add_generation_prompt=True, sizes=sizes).ids)
        if request.answer_start:
            ids += processor.tokenizer.encode(request.answer_start, add_special_tokens=False)
        make = partial(_read_picture, processor)
        return ids, tuple(pictures.get(request, place, partial(make, request.images[place])) for place in order)

    def _of_this_thread(self, max_tiles: int | None) -> Any:
        """This thread's own processor, with at most so many tiles."""
        if not hasattr(self._own, "processors"):
            self._own.processors = {None: deepcopy(self._processor)}
        known = self._own.processors
        if max_tiles is not None and max_tiles not in known:
            known[max_tiles] = _with_tiles(known[None], max_tiles)
        return known[max_tiles]


def _read_picture(processor: Any, image: Image.Image) -> Picture:
    return Picture("", {"pixel_values": processor.pixel_values([image])})


def _with_tiles(processor: Any, max_tiles: int) -> Any:
    """The same processor with another upper limit of tiles; ``split`` never has more than the student was trained with."""
    images = processor.images
    if images is None or images.spec.tiling == "none":
        return processor
    from taid_vlm.models.processor import Processor
    from taid_vlm.models.tiling import longest_edge

    side = images.input.size
    if images.spec.tiling == "split":
        change = {"longest_edge": min(longest_edge(side, images.spec), isqrt(max_tiles) * side)}
    else:
        change = {"max_tiles": max_tiles, "min_tiles": min(images.spec.min_tiles, max_tiles)}
    changed = replace(images, spec=images.spec.model_copy(update=change))
    return Processor(processor.tokenizer, processor.template, changed)
