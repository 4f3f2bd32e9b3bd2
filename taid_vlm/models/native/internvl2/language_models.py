"""The language models that InternVL2 was released with, as configs and tensor names of stock classes.

InternLM2 is a Llama whose queries, keys and values are one matrix, grouped by key head: ``[key heads, queries of the head, then key, then
value, head dimension]``. Qwen2, Phi-3 and Llama have their stock names already.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.common.registry import Registry
from taid_vlm.models.native.internvl2.original import check_keys, expect

Cut = Callable[[Tensor], Tensor]
Pieces = list[tuple[str, Cut]]  # native names, and what of the original tensor each is

COMMON = {
    *("bos_token_id", "eos_token_id", "hidden_act", "hidden_size", "intermediate_size", "max_position_embeddings"),
    *(
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "pad_token_id",
        "rms_norm_eps",
        "rope_scaling",
    ),
    *("rope_theta", "tie_word_embeddings", "vocab_size", "attention_dropout", "head_dim"),
}


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself."""
    return tensor


@dataclass(frozen=True)
class LanguageModel:
    """How one class of language models is converted.

    Attributes:
        model_type: of the stock class.
        known: keys of its config that are understood.
        config: original config to arguments of the stock config.
        pieces: name below ``language_model.`` to native pieces; an empty list drops the tensor, None says that the name is not known.
    """

    model_type: str
    known: set[str]
    config: Callable[[Mapping[str, Any]], dict[str, Any]]
    pieces: Callable[[str, Mapping[str, Any]], Pieces | None]


LANGUAGE_MODELS: Registry[LanguageModel] = Registry("language model of InternVL2")


def text_config(architecture: str, text: Mapping[str, Any]) -> Any:
    """The stock config of a language model.

    Raises:
        UserError: another class of language models, or settings that are not known here.
    """
    from transformers import AutoConfig

    if architecture not in LANGUAGE_MODELS:
        raise UserError(
            f"the checkpoint's language model is {architecture!r}; those that can be converted: {', '.join(LANGUAGE_MODELS)}"
        )
    kind = LANGUAGE_MODELS.get(architecture)
    check_keys(text, kind.known, "llm_config")
    arguments = kind.config(text)
    try:
        config = AutoConfig.for_model(kind.model_type, **arguments)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"llm_config of the checkpoint is refused by the stock class: {str(error).splitlines()[-1]}"
        ) from error
    config.architectures = [f"{type(config).__name__.removesuffix('Config')}ForCausalLM"]
    return config


def rope(text: Mapping[str, Any], kinds: tuple[str, ...], theta: float) -> dict[str, Any]:
    """Rotary settings in the stock form.

    Raises:
        UserError: a scaling that is none of ``kinds``.
    """
    base: dict[str, Any] = {"rope_theta": float(text.get("rope_theta", theta))}
    scaling = text.get("rope_scaling")
    if not scaling:
        return {"rope_parameters": {"rope_type": "default", **base}}
    kind = scaling.get("type", scaling.get("rope_type"))
    if kind not in kinds:
        raise UserError(f"rope_scaling of the checkpoint is of type {kind!r}, expected none, or {' or '.join(kinds)}")
    rest = {key: value for key, value in scaling.items() if key not in ("type", "rope_type")}
    return {"rope_parameters": {"rope_type": "longrope" if kind == "su" else kind, **base, **rest}}


def _shared(text: Mapping[str, Any]) -> dict[str, Any]:
    skipped = ("rope_scaling", "rope_theta")
    kept = {key: text[key] for key in COMMON if key in text and key not in skipped and text[key] is not None}
    heads = int(text["num_attention_heads"])
    kept["num_key_value_heads"] = int(text.get("num_key_value_heads") or heads)
    kept["tie_word_embeddings"] = bool(text.get("tie_word_embeddings", False))
    # A padding id zeroes a row of the embedding when the model is built, which the weights then fill; none is simplest.
    return {**kept, "use_cache": True}


def _internlm2_config(text: Mapping[str, Any]) -> dict[str, Any]:
    expect(
        text.get("rope_pos_id_version", "default"),
        "default",
        "rope_pos_id_version",
        "the stock class has no variable positions of pictures",
    )
    bias = bool(text.get("bias", True))  # what is left out, the original class has by default
    return {
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        **_shared(text),
        **rope(text, ("linear", "dynamic"), 10_000.0),
        "attention_bias": bias,
        "mlp_bias": False,
    }


def _llama_config(text: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: bool(text.get(key, False)) for key in ("attention_bias", "mlp_bias")}
    return {**_shared(text), **rope(text, ("linear", "dynamic"), 10_000.0), **own}


def _qwen2_config(text: Mapping[str, Any]) -> dict[str, Any]:
    expect(bool(text.get("use_sliding_window")), False, "use_sliding_window", "the original attends to everything")
    return {**_shared(text), **rope(text, ("dynamic",), 10_000.0), "use_sliding_window": False}


def _qwen3_config(text: Mapping[str, Any]) -> dict[str, Any]:
    return {**_qwen2_config(text), "attention_bias": bool(text.get("attention_bias", False))}


def _phi3_config(text: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: text[key] for key in ("original_max_position_embeddings", "sliding_window") if key in text}
    scaled = rope(text, ("su", "longrope"), 10_000.0)
    if scaled["rope_parameters"]["rope_type"] == "longrope":
        scaled["rope_parameters"].setdefault(
            "original_max_position_embeddings", int(text.get("original_max_position_embeddings", 4096))
        )
    return {**_shared(text), **scaled, **own}


def _stock_pieces(name: str, text: Mapping[str, Any]) -> Pieces | None:
    if name.endswith("rotary_emb.inv_freq"):  # early releases saved it; it follows from the config
        return []
    if name in ("lm_head.weight", "model.embed_tokens.weight"):
        return [(name.replace("model.", "model.language_model."), whole)]
    if name.startswith("model."):
        return [(f"model.language_model.{name.removeprefix('model.')}", whole)]
    return None


INTERNLM2 = {
    "attention_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "attention.wo.weight": "self_attn.o_proj.weight",
    "attention.wo.bias": "self_attn.o_proj.bias",
    "feed_forward.w1.weight": "mlp.gate_proj.weight",
    "feed_forward.w3.weight": "mlp.up_proj.weight",
    "feed_forward.w2.weight": "mlp.down_proj.weight",
}
INTERNLM2_OUTSIDE = {
    "model.tok_embeddings.weight": "model.language_model.embed_tokens.weight",
    "model.norm.weight": "model.language_model.norm.weight",
    "output.weight": "lm_head.weight",
}


def _internlm2_pieces(name: str, text: Mapping[str, Any]) -> Pieces | None:
    if name in INTERNLM2_OUTSIDE:
        return [(INTERNLM2_OUTSIDE[name], whole)]
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
    if match is None:
        return None
    layer, inner = f"model.language_model.layers.{match[1]}", match[2]
    if inner.endswith("rotary_emb.inv_freq"):
        return []
    if inner in INTERNLM2:
        return [(f"{layer}.{INTERNLM2[inner]}", whole)]
    if inner not in ("attention.wqkv.weight", "attention.wqkv.bias"):
        return None
    kind = inner.rpartition(".")[2]
    cuts = queries_keys_values(
        int(text["num_attention_heads"]), int(text.get("num_key_value_heads") or text["num_attention_heads"])
    )
    return [(f"{layer}.self_attn.{part}_proj.{kind}", cut) for part, cut in zip("qkv", cuts, strict=True)]


def queries_keys_values(heads: int, key_heads: int) -> tuple[Cut, Cut, Cut]:
    """How the fused matrix ``[key heads * (group + 2) * D, H]`` (or its bias) is cut into those of queries, keys and values."""
    group = heads // key_heads

    def grouped(tensor: Tensor) -> Tensor:
        return tensor.unflatten(0, (key_heads, group + 2, tensor.shape[0] // (key_heads * (group + 2))))

    def queries(tensor: Tensor) -> Tensor:
        return grouped(tensor)[:, :group].flatten(0, 2)

    def keys(tensor: Tensor) -> Tensor:
        return grouped(tensor)[:, group].flatten(0, 1)

    def values(tensor: Tensor) -> Tensor:
        return grouped(tensor)[:, group + 1].flatten(0, 1)

    return queries, keys, values


for _name, _kind in {
    "InternLM2ForCausalLM": LanguageModel(
        "llama", COMMON | {"bias", "rope_pos_id_version"}, _internlm2_config, _internlm2_pieces
    ),
    "LlamaForCausalLM": LanguageModel(
        "llama", COMMON | {"attention_bias", "mlp_bias", "pretraining_tp"}, _llama_config, _stock_pieces
    ),
    "Qwen2ForCausalLM": LanguageModel(
        "qwen2", COMMON | {"max_window_layers", "sliding_window", "layer_types"}, _qwen2_config, _stock_pieces
    ),
    "Qwen3ForCausalLM": LanguageModel(
        "qwen3",
        COMMON | {"attention_bias", "max_window_layers", "sliding_window", "layer_types"},
        _qwen3_config,
        _stock_pieces,
    ),
    "Phi3ForCausalLM": LanguageModel(
        "phi3",
        COMMON | {"original_max_position_embeddings", "sliding_window", "partial_rotary_factor"},
        _phi3_config,
        _stock_pieces,
    ),
}.items():
    LANGUAGE_MODELS.register(_name)(_kind)
