"""Any stock transformers checkpoint: language only, or images and text."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm_eval.models import features
from taid_vlm_eval.models.answer_logits import stock_rows
from taid_vlm_eval.models.assembling import Assembled, padded
from taid_vlm_eval.models.greedy import ends_of, only_greedy
from taid_vlm_eval.models.likelihood import log_likelihoods
from taid_vlm_eval.models.pictures import CACHE_BYTES, PictureCache
from taid_vlm_eval.models.protocol import Likelihood, Request
from taid_vlm_eval.models.said import as_said
from taid_vlm_eval.models.shared_prefix import Batch, Sharing, continue_whole
from taid_vlm_eval.models.stock_reading import Part, StockReader
from taid_vlm_eval.models.stopping import stopping
from taid_vlm_eval.models.tiles import tiles_setting


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
        not_reused = "" if reuse_images else "it was not asked for"
        if processor is not None and reuse_images:
            not_reused = features.cannot_encode_alone(model) or features.cannot_assemble(processor)
        self._cache, self._sharing = PictureCache(cache_bytes), Sharing()
        self._reader = StockReader(processor, tokenizer, name, self._cache, not_reused)

    @property
    def not_reused(self) -> str:
        """Why images are read anew with every question; "" when they are not."""
        return self._reader.not_reused

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
        return self._reader.read(requests)

    @torch.inference_mode()
    def answer(self, prepared: list[Part], max_new_tokens: int) -> list[str]:
        """See :meth:`Preparing.answer`."""
        answers: dict[int, str] = {}
        for part in prepared:
            for several in self._encoded(part):
                new_BT = self._continue(several, max_new_tokens)
                texts = self._tokenizer.batch_decode(new_BT, skip_special_tokens=True)
                answers.update(zip(several.requests, map(as_said, several.requests.values(), texts), strict=True))
        return [answers[row] for row in range(len(answers))]

    def picture_tokens(self, width: int, height: int, max_tiles: int | None) -> int:
        """See :meth:`Measuring.picture_tokens`."""
        return self._reader.picture_tokens(width, height, max_tiles)

    @contextmanager
    def inputs_of(self, requests: Sequence[Request]) -> Iterator[dict[str, Tensor]]:
        """Arguments of one forward pass of the model over requests, all with images or all without, padded on the left, on its device.

        Valid within the context: there the model reads images that were encoded before.
        """
        parts = self.prepare(requests)
        if len(parts) > 1:
            parts = self._reader.whole(dict(enumerate(requests)))
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
        inputs, ending = part.inputs, stopping(self._tokenizer, list(part.requests.values()))
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
            for picture in dict.fromkeys(one for row in part.inputs.pictures for one in row):
                features.encode(self._model, picture)
                self._cache.weigh(picture)
        except features.CannotReuseError as error:
            self._reader.not_reused = str(error)
            return self._reader.whole(part.requests)
        return [part]
