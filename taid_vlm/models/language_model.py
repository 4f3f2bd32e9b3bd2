"""Language models: loading (GGUF too), and cutting a smaller one out of a larger one."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import new_folder, require_space, sha256_of
from taid_vlm.common.paths import resolve
from taid_vlm.models.specs import LanguageModelSpec


def load_language_model(spec: LanguageModelSpec, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Any]:
    """Load a causal language model and its tokenizer, cut to ``spec.layers``.

    Returns:
        The model in evaluation mode, and a fast tokenizer.

    Raises:
        UserError: the source is not there, or the layers asked for do not exist.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = checked_source(spec)
    options = {"revision": spec.revision, "trust_remote_code": spec.trust_remote_code}
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **options)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot load the language model {spec.source!r}: {str(error).splitlines()[0]}. Give a hub id, a folder written as "
            f"./folder, or asset:NAME"
        ) from error
    if spec.layers is not None:
        cut_layers(model, layers_to_keep(spec.layers, len(decoder_layers(model))))
    return model.eval(), tokenizer


def checked_source(spec: LanguageModelSpec) -> str:
    """Folder or hub id to load from; GGUF files are converted once into the cache.

    Raises:
        UserError: a folder that does not exist, or a GGUF file that is not in it.
    """
    source = resolve(spec.source)
    if source.startswith(("./", "../", "/", "~")):
        source = str(Path(source).expanduser())
        if not Path(source).is_dir():
            raise UserError(f"language model folder not found: {source}; a folder with config.json was expected")
    if spec.gguf_file is not None:
        return str(_converted_gguf(Path(source), spec.gguf_file))
    return source


def _converted_gguf(folder: Path, file_name: str) -> Path:
    """Convert a GGUF file to safetensors once; later loads read the result from the cache in a second."""
    gguf = folder / file_name
    if not gguf.is_file():
        raise UserError(f"GGUF file not found: {gguf}; check source and gguf_file")
    target = cache_folder() / "converted" / f"{gguf.stem}-{sha256_of(gguf)[:16]}"
    if target.is_dir():
        return target
    from transformers import AutoModelForCausalLM, AutoTokenizer

    require_space(target, 12 * gguf.stat().st_size, f"the converted {file_name}")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file_name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file_name)
    # The weights are plain floats now: without this, saving would ask for a GGUF quantiser.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    with new_folder(target) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        for licence in folder.glob("LICENSE*"):
            shutil.copy(licence, temporary)
    return target


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The list of decoder layers of a causal language model.

    Raises:
        UserError: the architecture keeps its layers elsewhere.
    """
    layers = getattr(backbone_of(model), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise UserError(
            f"{type(model).__name__} has no list of decoder layers named 'layers', so no layers can be cut from it; "
            f"leave 'layers' out or choose a Llama-like model"
        )
    return layers


def backbone_of(model: Any) -> Any:
    """The language model without its head."""
    return model.base_model


def layers_to_keep(wanted: int | list[int], available: int) -> list[int]:
    """Indices of the layers to keep; a number means evenly spaced with the first and the last.

    >>> layers_to_keep(4, 30)
    [0, 10, 19, 29]

    Raises:
        UserError: an index out of range or given twice, or more layers than there are.
    """
    if isinstance(wanted, int):
        if not 1 <= wanted <= available:
            raise UserError(
                f"layers: {wanted} asked for, but the language model has {available}; give 1 to {available}"
            )
        if wanted == 1:
            return [0]
        return [round(i * (available - 1) / (wanted - 1)) for i in range(wanted)]
    if not wanted or len(set(wanted)) != len(wanted) or any(not 0 <= i < available for i in wanted):
        raise UserError(
            f"layers: {wanted} asked for; expected different numbers from 0 to {available - 1}, in the order they shall run"
        )
    return list(wanted)


def cut_layers(model: nn.Module, keep: list[int]) -> None:
    """Keep only the decoder layers ``keep``, in place, and make the config agree (cache indices, per-layer types)."""
    backbone = backbone_of(model)
    layers = decoder_layers(model)
    backbone.layers = nn.ModuleList(layers[i] for i in keep)
    for index, layer in enumerate(backbone.layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index  # the key-value cache is addressed by it
    config: Any = model.config
    config.num_hidden_layers = len(keep)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in keep]
