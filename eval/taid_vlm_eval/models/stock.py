"""Any stock transformers checkpoint: language only, or images and text."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm_eval.models.device import choose_device
from taid_vlm_eval.models.identity import folder_fingerprint
from taid_vlm_eval.models.protocol import Request

DTYPES = ("float32", "bfloat16", "float16")


class StockModel:
    """A model and its processor (with images) or tokenizer (without).

    Args:
        model: in evaluation mode, on its device.
        processor: for an image-text model; None for a language model.
        tokenizer: the processor's own, or the language model's.
        name: shown in results.
        identity: text that changes whenever the weights do.
    """

    def __init__(self, model: Any, processor: Any | None, tokenizer: Any, name: str, identity: str) -> None:
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
        _keep_only_greedy(model, tokenizer)

    def describe(self) -> dict[str, str | int]:
        source = self._processor or self._tokenizer
        return {
            "adapter": "transformers",
            "name": self.name,
            "class": type(self._model).__name__,
            "parameters": sum(parameter.numel() for parameter in self._model.parameters()),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "template": "own" if source.chat_template else "none (plain prompt)",
            "identity": self._identity,
        }

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], max_new_tokens: int) -> list[str]:
        answers = [""] * len(requests)
        # Processors disagree on batches where only some requests have images.
        for with_images in (False, True):
            rows = [row for row, request in enumerate(requests) if bool(request.images) == with_images]
            if rows:
                group = [requests[row] for row in rows]
                for row, answer in zip(rows, self._answer(group, max_new_tokens), strict=True):
                    answers[row] = answer
        return answers

    def _answer(self, requests: Sequence[Request], max_new_tokens: int) -> list[str]:
        inputs = self._with_processor(requests) if self._processor is not None else self._with_tokenizer(requests)
        inputs = inputs.to(self._model.device)
        for key, value in inputs.items():
            if value.is_floating_point():
                inputs[key] = value.to(self._model.dtype)
        output_BT = self._model.generate(**inputs, max_new_tokens=max_new_tokens)
        new_BT = output_BT[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self._tokenizer.batch_decode(new_BT, skip_special_tokens=True)]

    def _with_processor(self, requests: Sequence[Request]) -> Any:
        conversations = []
        for request in requests:
            content: list[dict[str, Any]] = [{"type": "image", "image": image} for image in request.images]
            conversations.append([{"role": "user", "content": [*content, {"type": "text", "text": request.prompt}]}])
        assert self._processor is not None
        return self._processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )

    def _with_tokenizer(self, requests: Sequence[Request]) -> Any:
        for request in requests:
            if request.images:
                raise UserError(f"{self.name} is a language model, but the task has images; choose a model that sees")
        prompts = [request.prompt for request in requests]
        if not self._tokenizer.chat_template:
            return self._tokenizer(prompts, padding=True, return_tensors="pt", return_token_type_ids=False)
        return self._tokenizer.apply_chat_template(
            [[{"role": "user", "content": prompt}] for prompt in prompts],
            add_generation_prompt=True,
            tokenize=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
            tokenizer_kwargs={"return_token_type_ids": False},
        )


def _keep_only_greedy(model: Any, tokenizer: Any) -> None:
    """Drop what a checkpoint says on sampling, penalties and beams; keep where an answer ends."""
    ends = model.generation_config.eos_token_id
    model.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        eos_token_id=ends if ends is not None else tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def open_stock(
    name: str, device: str | None = None, dtype: str | None = None, trust_remote_code: bool = False
) -> StockModel:
    """Load a checkpoint folder or hub id: image-text when transformers files its type there, else language only.

    Raises:
        UserError: unknown precision or device, not found here or on the hub, not loadable, or weights missing in it; the
            message carries the reason.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}: {did_you_mean(dtype, DTYPES)}")
    place = choose_device(device)
    folder = Path(name).expanduser()
    where = str(folder) if folder.is_dir() else name
    common = {"trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(where, **common)
        sees = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        loaded: Any = kind.from_pretrained(where, dtype=dtype or "auto", output_loading_info=True, **common)
        model, loading = loaded
        processor = AutoProcessor.from_pretrained(where, **common) if sees else None
        tokenizer = processor.tokenizer if processor is not None else AutoTokenizer.from_pretrained(where, **common)
    except Exception as error:  # a damaged checkpoint raises many types: OSError, SafetensorError, RuntimeError, ...
        reason = shorten(str(error) or type(error).__name__, 300, placeholder=" ...")
        raise UserError(
            f"{name} does not load as a transformers checkpoint (folder here or hub id): {reason}"
        ) from error
    # transformers only logs this, and goes on with random weights in their place.
    if missing := sorted(loading["missing_keys"]):
        raise UserError(f"{name} lacks {len(missing)} weights of its architecture, the first being {missing[0]}")
    identity = folder_fingerprint(folder)[:16] if folder.is_dir() else str(config._commit_hash)
    model = model.to(place).eval()
    return StockModel(model, processor, tokenizer, folder.resolve().name if folder.is_dir() else name, identity)
