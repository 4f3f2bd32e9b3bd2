"""Requests as a stock checkpoint's own processor or tokenizer reads them. Threads may read at the same time."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from threading import local
from typing import Any

from taid_vlm_eval.cannot_ask import CannotAskError
from taid_vlm_eval.models.assembling import Assembled, Assembler, whole
from taid_vlm_eval.models.conversation import as_text, without_template
from taid_vlm_eval.models.likelihood import plain_ids
from taid_vlm_eval.models.pictures import PictureCache
from taid_vlm_eval.models.protocol import Request
from taid_vlm_eval.models.tiles import TokenCounts

# What processors raise that want pictures and text in another form than the one that most of them share.
ASSEMBLING_FAILS = (TypeError, ValueError, KeyError, IndexError, AttributeError, NotImplementedError)


@dataclass(frozen=True)
class Part:
    """Requests of a batch that the model reads at the same time, by their places in it."""

    requests: Mapping[int, Request]
    inputs: Any  # Assembled, or what the processor made


class StockReader:
    """Reads with copies of one processor, or of a tokenizer.

    Args:
        processor: for an image-text model; None for a language model.
        tokenizer: the processor's own, or the language model's.
        name: the model's, for messages.
        cache: of pictures that were read.
        not_reused: why each request is to be read as a whole, pictures and text; "" to read pictures alone, once for all.

    Attributes:
        not_reused: the same, or what came in the way since.
    """

    def __init__(
        self, processor: Any | None, tokenizer: Any, name: str, cache: PictureCache, not_reused: str = ""
    ) -> None:
        self.not_reused = not_reused
        self._name = name
        self._assembler, self._counts = Assembler(cache), TokenCounts()
        self._shared = processor, tokenizer
        self._own = local()  # a copy for each thread but this one: tokenizers must not be used by two at a time
        self._own.pair = self._shared

    def read(self, requests: Sequence[Request]) -> list[Part]:
        """The requests in parts that are alike enough to be read at the same time."""
        processor, tokenizer = self._of_this_thread()
        texts = {row: request for row, request in enumerate(requests) if processor is None or request.plain}
        rest = {row: request for row, request in enumerate(requests) if row not in texts}
        parts = [Part(texts, self._as_text(tokenizer, texts.values()))] if texts else []
        return parts + self._with_pictures(processor, rest)

    def whole(self, requests: Mapping[int, Request]) -> list[Part]:
        """Requests as the processor reads them. Processors disagree on batches where only some have images."""
        processor, _ = self._of_this_thread()
        alike: dict[Any, dict[int, Request]] = {}
        for row, request in requests.items():
            kind = (bool(request.images), request.max_tiles if request.images else None)
            alike.setdefault(kind, {})[row] = request
        return [Part(several, whole(processor, list(several.values()))) for several in alike.values()]

    def picture_tokens(self, width: int, height: int, max_tiles: int | None) -> int:
        """See :meth:`Measuring.picture_tokens`."""
        processor, _ = self._of_this_thread()
        if processor is None:
            raise self._sees_nothing()
        return self._counts.count(processor, width, height, max_tiles)

    def _with_pictures(self, processor: Any, requests: Mapping[int, Request]) -> list[Part]:
        """Parts put together from pictures read alone, as far as they can be."""
        if self.not_reused or not requests:
            return self.whole(requests)
        rows = list(requests)
        try:
            done, assembled = self._assembler.assemble(processor, list(requests.values()))
        except ASSEMBLING_FAILS as error:
            # A picture that is not read this way either raises here, and says nothing of the others.
            parts = self.whole(requests)
            self.not_reused = f"{type(processor).__name__} takes no image alone ({type(error).__name__}: {error})"
            return parts
        taken = {rows[index]: requests[rows[index]] for index in done}
        left = {row: request for row, request in requests.items() if row not in taken}
        return [*([Part(taken, assembled)] if taken else []), *self.whole(left)]

    def _as_text(self, tokenizer: Any, requests: Iterable[Request]) -> Assembled:
        ids = []
        for request in requests:
            if request.images:
                raise self._sees_nothing()
            if request.plain:
                ids.append(plain_ids(tokenizer, request))
            elif tokenizer.chat_template:
                text = tokenizer.apply_chat_template(as_text(request), add_generation_prompt=True, tokenize=False)
                ids.append(tokenizer(text + request.answer_start, add_special_tokens=False)["input_ids"])
            else:
                ids.append(tokenizer(without_template(request))["input_ids"])
        return Assembled(ids, [[] for _ in ids], "", [() for _ in ids])

    def _sees_nothing(self) -> CannotAskError:
        return CannotAskError(f"{self._name} is a language model, but the task has images; choose a model that sees")

    def _of_this_thread(self) -> tuple[Any, Any]:
        """Processor and tokenizer."""
        if not hasattr(self._own, "pair"):
            processor = deepcopy(self._shared[0])
            self._own.pair = processor, deepcopy(self._shared[1]) if processor is None else processor.tokenizer
        pair: tuple[Any, Any] = self._own.pair
        return pair
