"""Language models: loading (GGUF too), whole or cut, with weights or without."""

import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import new_folder, require_space, sha256_of
from taid_vlm.common.paths import resolve
from taid_vlm.common.remote_code import refusal, trusted
from taid_vlm.models.layers import cut_layers, decoder_layers, layers_to_keep
from taid_vlm.models.specs import LanguageModelSpec

# Families (``model_type``) that stock vision-language classes can hold as their language model: each
# keeps its embeddings under ``embed_tokens`` and takes ``inputs_embeds``. As a plain language model any family will do.
VISION_FAMILIES = (
    "llama",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3_text",
    "phi3",
    "mistral",
    "olmo2",
    "granite",
    "smollm3",
    "lfm2",
    "exaone4",
)


def load_language_model(
    spec: LanguageModelSpec, dtype: torch.dtype = torch.float32, *, load_weights: bool = True
) -> tuple[nn.Module, Any]:
    """Load a causal language model and its tokenizer, cut to ``spec.layers``.

    Args:
        load_weights: False builds the model from its config (of a GGUF file: from its metadata) and reads no weights.
            Under ``with torch.device("meta")`` nothing is allocated either.

    Returns:
        The model in evaluation mode, and a fast tokenizer.

    Raises:
        UserError: the source is not there, or the layers asked for do not exist.
    """
    source = checked_source(spec)
    trust = trusted(source, spec.revision, spec.trust_remote_code)
    options: dict[str, Any] = {"revision": spec.revision, "trust_remote_code": trust}
    if spec.gguf_file is not None:
        source = str(_converted_gguf(Path(source), spec.gguf_file, load_weights))
    try:
        model, tokenizer = _open(source, dtype, load_weights, options)
    except (OSError, ValueError, UnpicklingError) as error:
        if why := refusal(error, "trust_remote_code: true beside its source"):
            raise UserError(f"cannot load the language model {spec.source!r}: {why}") from error
        raise UserError(
            f"cannot load the language model {spec.source!r}: {str(error).splitlines()[0]}. Give a hub id, a folder written as "
            f"./folder, or asset:NAME"
        ) from error
    if spec.layers is not None:
        cut_layers(model, layers_to_keep(spec.layers, len(decoder_layers(model))))
    return model.eval(), tokenizer


def _open(source: str, dtype: torch.dtype, load_weights: bool, options: dict[str, Any]) -> tuple[nn.Module, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if load_weights:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **options)
    else:
        config = AutoConfig.from_pretrained(source, **options)
        trust = options["trust_remote_code"]
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust)
    return model, AutoTokenizer.from_pretrained(source, **options)


def checked_source(spec: LanguageModelSpec) -> str:
    """Folder or hub id to load from.

    Raises:
        UserError: a folder that does not exist, or a GGUF file that is not in it.
    """
    source = resolve(spec.source)
    if source.startswith(("./", "../", "/", "~")):
        source = str(Path(source).expanduser())
        if not Path(source).is_dir():
            raise UserError(f"language model folder not found: {source}; a folder with config.json was expected")
    if spec.gguf_file is not None and not (Path(source) / spec.gguf_file).is_file():
        raise UserError(f"GGUF file not found: {Path(source) / spec.gguf_file}; check source and gguf_file")
    return source


def _converted_gguf(folder: Path, file_name: str, load_weights: bool) -> Path:
    """Convert a GGUF file once; later loads read the result from the cache in a second.

    Args:
        load_weights: False converts config and tokenizer alone, unless the weights are there already.
    """
    gguf = folder / file_name
    whole = cache_folder() / "converted" / f"{gguf.stem}-{sha256_of(gguf)[:16]}"
    target = whole if load_weights or whole.is_dir() else whole.with_name(f"{whole.name}-outline")
    if target.is_dir():
        return target
    if load_weights:
        require_space(target, 12 * gguf.stat().st_size, f"the converted {file_name}")
    with new_folder(target) as temporary:
        _write_converted(folder, file_name, load_weights, temporary)
        for licence in folder.glob("LICENSE*"):
            shutil.copy(licence, temporary)
    return target


def _write_converted(folder: Path, file_name: str, load_weights: bool, target: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"gguf_file": file_name, "trust_remote_code": False}
    if load_weights:
        converted: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
        converted.hf_quantizer = None
        converted.is_quantized = False
        config = converted.config
    else:
        converted = config = AutoConfig.from_pretrained(folder, **options)
    # What is built of it has plain floats: without this, saving and building would ask for a GGUF quantiser.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    converted.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder, **options).save_pretrained(target)


def use_attention(model: Any, name: str) -> None:
    """Compute attention as transformers' implementation ``name`` does.

    Raises:
        UserError: there is none of that name, or its package, its hardware or its support by the family is missing.
    """
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"training.attention: {name} cannot be used with {type(model).__name__}: {str(error).splitlines()[0]}. Set eager, or leave "
            f"it out"
        ) from error


def backbone_of(model: Any) -> Any:
    """The language model without its head."""
    return model.base_model


def check_vision_family(model: Any) -> None:
    """Refuse language models that no class of a stock runtime can hold beside a vision encoder.

    Raises:
        UserError: the family, and those that can.
    """
    family = model.config.model_type
    if family not in VISION_FAMILIES:
        raise UserError(
            f"a language model of family {family!r} cannot be that of a vision student: no class of a stock runtime holds it "
            f"beside a vision encoder. Choose one of {', '.join(VISION_FAMILIES)}, or leave vision_encoder, projector and "
            f"image_token out to train it as a plain language model"
        )


@torch.no_grad()
def embedding_std(model: Any) -> float:
    """Standard deviation of what the token embeddings give; 1 on the meta device, where there are no values."""
    embeddings = model.get_input_embeddings()
    weight = embeddings.weight
    if weight.is_meta:
        return 1.0
    spread = float(weight.float().std())
    if type(embeddings) is nn.Embedding:
        return spread
    # Gemma 3 multiplies inside its embedding layer, which features that are put beside the tokens do not pass.
    some = torch.arange(min(64, weight.shape[0]), device=weight.device)
    return spread * float(embeddings(some).float().std() / weight[some].float().std())
