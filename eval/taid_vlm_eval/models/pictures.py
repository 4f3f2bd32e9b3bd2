"""Pictures that were preprocessed, and later encoded: kept by key, so that both are done once for all questions about one."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

from torch import Tensor

from taid_vlm_eval.models.protocol import Request

CACHE_BYTES = 1 << 30


class Picture:
    """One picture as a model takes it.

    Attributes:
        text: what stands for it in the prompt.
        pixels: what the encoder reads, as a batch of one, on the CPU; None once it was read.
        features: what the encoder made of it, on the CPU; None before.
        small: of ``pixels``, what the language model asks for as well (sizes, grids); stays.
    """

    def __init__(self, text: str, pixels: dict[str, Tensor], small: dict[str, Tensor] | None = None) -> None:
        self.text = text
        self.pixels: dict[str, Tensor] | None = pixels
        self.features: Any = None
        self.small = small or {}

    def encoded(self, features: Any) -> None:
        """Keep the features, and no longer the pixels."""
        self.features, self.pixels = features, None

    @property
    def bytes(self) -> int:
        """Memory it holds."""
        return _bytes(self.pixels) + _bytes(self.features) + _bytes(self.small)


class PictureCache:
    """The pictures used last, up to a number of bytes. Threads may ask at the same time; each picture is made once.

    Args:
        limit: bytes that all pictures may hold together. One that is forgotten lives on in the batches that hold it.

    Attributes:
        held: bytes that they hold, as each was weighed last.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit, self.held = limit, 0
        self._lock = Lock()
        self._pictures: OrderedDict[Any, Picture] = OrderedDict()
        self._weights: dict[Picture, int] = {}
        self._making: dict[Any, Lock] = {}

    def get(self, key: Any, make: Callable[[], Picture]) -> Picture:
        """The picture of this key; ``make`` makes it where there is none."""
        with self._lock:
            if (found := self._find(key)) is not None:
                return found
            mine = self._making.setdefault(key, Lock())
        with mine:
            with self._lock:
                if (found := self._find(key)) is not None:
                    return found
            made = make()
            with self._lock:
                self._making.pop(key, None)
                # Another thread's, where one was made and forgotten while this thread waited, and then made again.
                picture = self._pictures.setdefault(key, made)
                self._weigh(picture)
        return picture

    def weigh(self, picture: Picture) -> None:
        """Take notice that a picture was encoded, and forget the oldest ones where all are too large together."""
        with self._lock:
            if picture in self._weights:
                self._weigh(picture)

    def _find(self, key: Any) -> Picture | None:
        if key in self._pictures:
            self._pictures.move_to_end(key)
        return self._pictures.get(key)

    def _weigh(self, picture: Picture) -> None:
        weight = picture.bytes
        self.held += weight - self._weights.get(picture, 0)
        self._weights[picture] = weight
        while len(self._pictures) > 1 and self.held > self.limit:
            _, oldest = self._pictures.popitem(last=False)
            self.held -= self._weights.pop(oldest)


class BatchPictures:
    """The pictures of one batch: those with a key come from the cache, each of the others is made once for the batch.

    Args:
        cache: None to make a picture anew each time it is shown, with or without a key.
    """

    def __init__(self, cache: PictureCache | None) -> None:
        self._cache = cache
        self._made: dict[tuple[int, int | None], Picture] = {}

    def get(self, request: Request, place: int, make: Callable[[], Picture]) -> Picture:
        """The picture of ``request.images[place]``, read with at most the request's tiles."""
        if self._cache is None:
            return make()
        if request.keys:
            return self._cache.get((request.keys[place], request.max_tiles), make)
        one = (id(request.images[place]), request.max_tiles)
        if one not in self._made:
            self._made[one] = make()
        return self._made[one]


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(_bytes(one) for one in value.values())
    if isinstance(value, list | tuple):
        return sum(_bytes(one) for one in value)
    return 0
