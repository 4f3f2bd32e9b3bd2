"""Any stock transformers checkpoint: language only, or images and text."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from threading import local
from typing import Any

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm_eval.cannot_ask import CannotAskError
from taid_vlm_eval.models import features
from taid_vlm_eval.models.assembling import Assembled, Assembler, padded, whole
from taid_vlm_eval.models.conversation import as_text, without_template
from taid_vlm_eval.models.greedy import ends_of, only_greedy
from taid_vlm_eval.models.likelihood import log_likelihoods, plain_ids, stock_rows
from taid_vlm_eval.models.pictures import CACHE_BYTES, PictureCache
from taid_vlm_eval.models.protocol import Likelihood, Request
from taid_vlm_eval.models.said import as_said
from taid_vlm_eval.models.shared_prefix import Batch, Sharing, continue_whole
from taid_vlm_eval.models.stopping import stopping
from taid_vlm_eval.models.tiles import TokenCounts, tiles_setting

# What processors raise that want pictures and text in another form than the one that most of them share.
ASSEMBLING_FAILS = (TypeError, ValueError, KeyError, IndexError, AttributeError, NotImplementedError)


@dataclass(frozen=True)
class Part:
    """Requests of a batch that the model reads at the same time, and where they stand in it."""

    rows: list[int]
    requests: list[Request]
    inputs: Any  # Assembled, or what the processor made


class StockModel:
    """A model and its processor (with images) or tokenizer (without).

    Args:
        model: in evaluation mode, on its device.
        processor: for an image-text model; None for a language model.
        tokenizer: the processor's own, or the language model's.
        name: shown in results.
        identity: text that changes whenever the weights do.
        reuse_images: encode each image once for all requests with its key, and read it once for all questions in a batch. Without, each
            request is read as a whole, by the processor and by the model; the answers are the same but for rounding.
        cache_bytes: of memory for images that were encoded.

    Attributes:
        not_reused: why images are read anew with every question; "" when they are not.
    """

    def __init__(
        self,
        model: Any,
        processor: Any | None,
        tokenizer: Any,
        name: str,
        identity: str,
        reuse_images: bool = True,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.name = name
        self._model, self._processor, self._tokenizer, self._identity = model, processor, tokenizer, identity
        tokenizer.padding_side = "left"  # answers start where prompts end, so all prompts must end together
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        if tokenizer.pad_token is None:
            raise UserError(
                f"the tokenizer of {name} has no pad_token and no eos_token to pad with; name one in its config"
            )
        if processor is not None and processor.chat_template is None:
            raise UserError(
                f"{name} has no chat template, so where its images go in a prompt is unknown; add one to it"
            )
        self._ends = ends_of(model, tokenizer)
        self._reuse = reuse_images
        self.not_reused = "" if reuse_images else "it was not asked for"
        if processor is not None and not self.not_reused:
            self.not_reused = features.cannot_encode_alone(model) or features.cannot_assemble(processor)
        self._cache = PictureCache(cache_bytes)
        self._assembler = Assembler(self._cache)
        self._sharing, self._counts = Sharing(), TokenCounts()
        self._own = local()  # a processor for each thread: tokenizers must not be used by two at a time
        self._own.processor, self._own.tokenizer = processor, tokenizer

    def describe(self) -> dict[str, str | int]:
        source = self._processor or self._tokenizer
        return {
            "adapter": "transformers",
            "name": self.name,
            "class": type(self._model).__name__,
            "parameters": sum(parameter.numel() for parameter in self._model.parameters()),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "template": "own" if source.chat_template else "none (plain prompt)",
            **({"max_tiles": tiles_setting(self._processor) or "not kept"} if self._processor is not None else {}),
            "identity": self._identity,
        }

    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str]:
        return self.answer(self.prepare(requests), max_new_tokens)

    def prepare(self, requests: Sequence[Request]) -> list[Part]:
        """See :meth:`Preparing.prepare`."""
        processor, tokenizer = self._of_this_thread()
        if processor is None:
            return [Part(list(range(len(requests))), list(requests), self._read_text(tokenizer, requests))]
        if plain := [row for row, request in enumerate(requests) if request.plain]:
            rest = [row for row, request in enumerate(requests) if not request.plain]
            group = [requests[row] for row in plain]
            others = self.prepare([requests[row] for row in rest]) if rest else []
            moved = [replace(part, rows=[rest[row] for row in part.rows]) for part in others]
            return [Part(plain, group, self._read_text(tokenizer, group)), *moved]
        parts: list[Part] = []
        left = list(range(len(requests)))
        if not self.not_reused:
            try:
                done, assembled = self._assembler.assemble(processor, requests)
            except ASSEMBLING_FAILS as error:
                # A picture that is not read this way either raises here, and says nothing of the others.
                parts = self._wholes(processor, requests, left)
                self.not_reused = f"{type(processor).__name__} takes no image alone ({type(error).__name__}: {error})"
                return parts
            if done:
                parts.append(Part(done, [requests[row] for row in done], assembled))
            left = [row for row in left if row not in set(done)]
        return parts + self._wholes(processor, requests, left)

    @torch.inference_mode()
    def answer(self, prepared: list[Part], max_new_tokens: int) -> list[str]:
        """See :meth:`Preparing.answer`."""
        answers: dict[int, str] = {}
        for part in prepared:
            for several in self._encoded(part):
                new_BT = self._continue(several, max_new_tokens)
                texts = self._tokenizer.batch_decode(new_BT, skip_special_tokens=True)
                answers.update(zip(several.rows, map(as_said, several.requests, texts), strict=True))
        return [answers[row] for row in range(len(answers))]

    def picture_tokens(self, width: int, height: int, max_tiles: int | None) -> int:
        """See :meth:`Measuring.picture_tokens`."""
        processor, _ = self._of_this_thread()
        if processor is None:
            raise self._sees_nothing()
        return self._counts.count(processor, width, height, max_tiles)

    @contextmanager
    def inputs_of(self, requests: Sequence[Request]) -> Iterator[dict[str, Tensor]]:
        """Arguments of one forward pass of the model over requests, all with images or all without, padded on the left, on its device.

        Valid within the context: there the model reads images that were encoded before.
        """
        parts = self.prepare(requests)
        if len(parts) > 1:
            parts = self._wholes(self._processor, requests, range(len(requests)))
        (part,) = self._encoded(*parts)
        if isinstance(part.inputs, Assembled):
            batch = self._batch(part.inputs)
            with batch.read(range(len(batch.ids)), [len(ids) for ids in batch.ids]) as inputs:
                yield inputs
        else:
            yield {key: features.to_model(value, self._model) for key, value in part.inputs.items()}

    @property
    def tokenizer(self) -> Any:
        """See :class:`AnswerRows`."""
        return self._tokenizer

    @property
    def chat_template(self) -> str | None:
        """See :class:`AnswerRows`."""
        return (self._processor or self._tokenizer).chat_template

    @property
    def longest(self) -> int | None:
        """See :class:`AnswerRows`."""
        return getattr(self._model.config.get_text_config(), "max_position_embeddings", None)

    def answer_rows(self, requests: Sequence[Request], answers: Sequence[Sequence[int]]) -> list[Tensor]:
        """See :meth:`AnswerRows.answer_rows`."""
        return stock_rows(self._model, self._tokenizer, self.inputs_of, requests, answers)

    def log_likelihoods(
        self, requests: Sequence[Request], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        """See :meth:`Scoring.log_likelihoods`."""
        return log_likelihoods(self, requests, continuations)

    def _continue(self, part: Part, max_new_tokens: int) -> Tensor:
        """Greedy continuations ``[B, new]``."""
        inputs, ending = part.inputs, stopping(self._tokenizer, part.requests)
        with only_greedy(self._model, self._ends, self._tokenizer.pad_token_id) as model:
            if isinstance(inputs, Assembled):
                continue_ = self._sharing.continue_shared if self._reuse else continue_whole
                return continue_(model, replace(self._batch(inputs), arguments=ending), max_new_tokens)
            moved = {key: features.to_model(value, model) for key, value in inputs.items()}
            output_BT: Tensor = model.generate(**moved, **ending, max_new_tokens=max_new_tokens)
            return output_BT[:, inputs["input_ids"].shape[1] :]

    def _batch(self, rows: Assembled) -> Batch:
        padding = self._tokenizer.pad_token_id
        config = self._model.config
        token = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
        return Batch(rows.ids, rows.pictures, partial(padded, self._model, rows, padding), token, padding)

    def _encoded(self, part: Part) -> list[Part]:
        """The part itself with all its pictures encoded, or the same requests as a processor reads them."""
        if not isinstance(part.inputs, Assembled):
            return [part]
        try:
            for picture in {id(one): one for row in part.inputs.pictures for one in row}.values():
                features.encode(self._model, picture)
        except features.CannotReuseError as error:
            self.not_reused = str(error)
            return self._wholes(self._processor, dict(zip(part.rows, part.requests, strict=True)), part.rows)
        self._cache.weigh()
        return [part]

    def _wholes(self, processor: Any, requests: Any, rows: Sequence[int]) -> list[Part]:
        """Requests as the processor reads them. Processors disagree on batches where only some have images."""
        alike: dict[Any, list[int]] = {}
        for row in rows:
            request = requests[row]
            alike.setdefault((bool(request.images), request.max_tiles if request.images else None), []).append(row)
        return [
            Part(several, group := [requests[row] for row in several], whole(processor, group))
            for several in alike.values()
        ]

    def _read_text(self, tokenizer: Any, requests: Sequence[Request]) -> Assembled:
        ids = []
        for request in requests:
            if request.images:
                raise self._sees_nothing()
            if request.plain:
                ids.append(plain_ids(tokenizer, request))
                continue
            if not tokenizer.chat_template:
                ids.append(tokenizer(without_template(request))["input_ids"])
                continue
            text = tokenizer.apply_chat_template(as_text(request), add_generation_prompt=True, tokenize=False)
            ids.append(tokenizer(text + request.answer_start, add_special_tokens=False)["input_ids"])
        return Assembled(ids, [[] for _ in ids], "", [() for _ in ids])

    def _sees_nothing(self) -> CannotAskError:
        return CannotAskError(f"{self.name} is a language model, but the task has images; choose a model that sees")

    def _of_this_thread(self) -> tuple[Any, Any]:
        if not hasattr(self._own, "tokenizer"):
            if self._processor is not None:
                self._own.processor = deepcopy(self._processor)
                self._own.tokenizer = self._own.processor.tokenizer
            else:
                self._own.processor, self._own.tokenizer = None, deepcopy(self._tokenizer)
        return self._own.processor, self._own.tokenizer
