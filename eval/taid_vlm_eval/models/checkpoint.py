"""Open a checkpoint of transformers: a folder here, or an id on the model hub."""

from pathlib import Path
from textwrap import shorten
from typing import Any

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.remote_code import refusal, trusted
from taid_vlm_eval.models.device import choose_device
from taid_vlm_eval.models.identity import folder_fingerprint
from taid_vlm_eval.models.internvl2 import as_stock
from taid_vlm_eval.models.stock import StockModel

SEES = "AutoModelForImageTextToText"
DTYPES = ("float32", "bfloat16", "float16")


def open_stock(
    name: str,
    device: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    reuse_images: bool = True,
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
    shown = folder.resolve().name if folder.is_dir() else name
    where = as_stock(str(folder) if folder.is_dir() else name)
    folder = Path(where)
    common = {"trust_remote_code": trusted(where, None, trust_remote_code)}
    try:
        config = AutoConfig.from_pretrained(where, **common)
        own_code = getattr(config, "auto_map", None) or {}
        sees = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES or SEES in own_code
        kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        loaded: Any = kind.from_pretrained(where, dtype=dtype or "auto", output_loading_info=True, **common)
        model, loading = loaded
        processor: Any = AutoProcessor.from_pretrained(where, **common) if sees else None
        if backend := getattr(config, "image_backend", None):  # whose pixels a converted checkpoint was trained with
            processor.image_processor = AutoImageProcessor.from_pretrained(where, backend=backend, **common)
        tokenizer = processor.tokenizer if processor is not None else AutoTokenizer.from_pretrained(where, **common)
    except Exception as error:  # a damaged checkpoint raises many types: OSError, SafetensorError, RuntimeError, ...
        reason = refusal(error, "--trust-remote-code") or shorten(
            str(error) or type(error).__name__, 300, placeholder=" ..."
        )
        raise UserError(
            f"{name} does not load as a transformers checkpoint (folder here or hub id): {reason}"
        ) from error
    # transformers only logs this, and goes on with random weights in their place.
    if missing := sorted(loading["missing_keys"]):
        raise UserError(f"{name} lacks {len(missing)} weights of its architecture, the first being {missing[0]}")
    identity = folder_fingerprint(folder)[:16] if folder.is_dir() else str(config._commit_hash)
    model = model.to(place).eval()
    return StockModel(model, processor, tokenizer, shown, identity, reuse_images)
