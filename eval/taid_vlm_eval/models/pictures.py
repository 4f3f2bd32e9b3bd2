"""Pictures that were preprocessed, and later encoded: kept by key, so that both are done once for all questions about one."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

from torch import Tensor

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
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self._lock = Lock()
        self._pictures: OrderedDict[Any, Picture] = OrderedDict()
        self._sizes: dict[Any, int] = {}
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
            picture = make()
            with self._lock:
                self._pictures[key] = picture
                self._making.pop(key, None)
                self._weigh(key)
        return picture

    def weigh(self) -> None:
        """Take notice of pictures that were encoded since, and forget the oldest ones where they are too large together."""
        with self._lock:
            for key in list(self._pictures):
                if key in self._pictures and self._sizes[key] != self._pictures[key].bytes:
                    self._weigh(key)

    def _find(self, key: Any) -> Picture | None:
        if key in self._pictures:
            self._pictures.move_to_end(key)
        return self._pictures.get(key)

    def _weigh(self, key: Any) -> None:
        self._sizes[key] = self._pictures[key].bytes
        while len(self._pictures) > 1 and sum(self._sizes.values()) > self.limit:
            oldest, _ = self._pictures.popitem(last=False)
            del self._sizes[oldest]


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(_bytes(one) for one in value.values())
    if isinstance(value, list | tuple):
        return sum(_bytes(one) for one in value)
    return 0
