"""Random checkpoints of some kilobytes in the layout in which InternVL2 was released, tokenizers and all."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.tiny.internvl2_tokenizers import TOKENIZERS

SIDE, PATCH, WIDTH, LAYERS = 32, 8, 16, 2  # of the vision tower: 16 cells, 4 tokens for a tile
HIDDEN, HEADS, KEY_HEADS, INNER = 32, 4, 2, 48
ARCHITECTURES = {
    "internlm2": "InternLM2ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "llama": "LlamaForCausalLM",
}
FORMS = {"internlm2": "internlm2-chat", "qwen2": "Hermes-2", "phi3": "phi3-chat", "llama": "internlm2-chat"}


DEFAULTS_OF_TRANSFORMERS: dict[str, Any] = {
    **{
        "return_dict": True,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
        "num_beams": 1,
        "max_length": 20,
        "length_penalty": 1.0,
    },
    **{
        "torchscript": False,
        "add_cross_attention": False,
        "bad_words_ids": None,
        "pruned_heads": {},
        "is_decoder": False,
    },
}


def text_config(kind: str, vocabulary: int, **more: Any) -> dict[str, Any]:
    """``llm_config`` as it is released: with all that transformers writes into a config."""
    own: dict[str, dict[str, Any]] = {
        "internlm2": {
            "bias": False,
            "rope_scaling": {"factor": 3.0, "type": "dynamic"},
            "attn_implementation": "eager",
        },
        "qwen2": {"use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 21},
        "phi3": {
            "original_max_position_embeddings": 64,
            "sliding_window": 262144,
            "rope_scaling": None,
            "embd_pdrop": 0.0,
        },
        "llama": {"attention_bias": False, "pretraining_tp": 1},
    }
    return {
        "architectures": [ARCHITECTURES[kind]],
        "model_type": kind,
        "vocab_size": vocabulary + 5,
        **{
            "hidden_size": HIDDEN,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KEY_HEADS,
            "num_hidden_layers": 2,
        },
        **{"intermediate_size": INNER, "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 128},
        **{
            "rope_theta": 10_000.0,
            "tie_word_embeddings": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
        },
        **{"torch_dtype": "bfloat16", "use_cache": True, "initializer_range": 0.02, "_name_or_path": "somewhere"},
        **DEFAULTS_OF_TRANSFORMERS,
        **own[kind],
        **more,
    }


def vision_config(**more: Any) -> dict[str, Any]:
    """``vision_config`` as it is released."""
    return {
        **{"architectures": ["InternVisionModel"], "model_type": "intern_vit_6b", "norm_type": "layer_norm"},
        **{"hidden_size": WIDTH, "num_attention_heads": 2, "num_hidden_layers": LAYERS, "intermediate_size": 24},
        **{"image_size": SIDE, "patch_size": PATCH, "num_channels": 3, "qkv_bias": True, "qk_normalization": False},
        **{
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "drop_path_rate": 0.1,
        },
        **{"initializer_factor": 0.1, "initializer_range": 1e-10, "use_flash_attn": True, "torch_dtype": "bfloat16"},
        **{"use_moe": False, "num_experts": 8, "capacity_factor": 1.2, "noisy_gate_policy": "RSample_before"},
        **DEFAULTS_OF_TRANSFORMERS,
        **more,
    }


def random_tensors(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Weights of the original names, spread widely enough that each shows in the logits."""
    random = torch.Generator().manual_seed(seed)

    def values(*shape: int, about: float = 0.0, spread: float = 0.3) -> Tensor:
        return about + spread * torch.randn(*shape, generator=random)

    vision, text = config["vision_config"], config["llm_config"]
    width, inner = vision["hidden_size"], vision["intermediate_size"]
    cells = (vision["image_size"] // vision["patch_size"]) ** 2
    out = {
        "vision_model.embeddings.class_embedding": values(1, 1, width),
        "vision_model.embeddings.position_embedding": values(1, cells + 1, width),
        "vision_model.embeddings.patch_embedding.weight": values(
            width, 3, vision["patch_size"], vision["patch_size"], spread=0.1
        ),
        "vision_model.embeddings.patch_embedding.bias": values(width),
    }
    for layer in range(vision["num_hidden_layers"]):
        at = f"vision_model.encoder.layers.{layer}."
        out[at + "attn.qkv.weight"] = values(3 * width, width)
        if vision["qkv_bias"]:
            out[at + "attn.qkv.bias"] = values(3 * width)
        if vision["qk_normalization"]:
            out[at + "attn.q_norm.weight"] = values(width, about=1.0)
            out[at + "attn.k_norm.weight"] = values(width, about=1.0)
        out |= _linear(at + "attn.proj", width, width, values) | _linear(at + "mlp.fc1", width, inner, values)
        out |= _linear(at + "mlp.fc2", inner, width, values)
        for name in ("norm1", "norm2"):
            out[at + name + ".weight"] = values(width, about=1.0)
            if vision["norm_type"] == "layer_norm":
                out[at + name + ".bias"] = values(width)
        out[at + "ls1"], out[at + "ls2"] = values(width, about=0.5), values(width, about=0.5)
    hidden = text["hidden_size"]
    out["mlp1.0.weight"], out["mlp1.0.bias"] = values(4 * width, about=1.0), values(4 * width)
    out |= _linear("mlp1.1", 4 * width, hidden, values) | _linear("mlp1.3", hidden, hidden, values)
    return out | {f"language_model.{name}": tensor for name, tensor in _text_tensors(text, values).items()}


def _linear(name: str, wide: int, high: int, values: Any) -> dict[str, Tensor]:
    return {f"{name}.weight": values(high, wide), f"{name}.bias": values(high)}


def _text_tensors(text: dict[str, Any], values: Any) -> dict[str, Tensor]:
    kind = text["model_type"]
    hidden, inner, vocabulary = text["hidden_size"], text["intermediate_size"], text["vocab_size"]
    head = hidden // text["num_attention_heads"]
    keys = text["num_key_value_heads"] * head
    fused = kind == "internlm2"
    out = {
        "model.tok_embeddings.weight" if fused else "model.embed_tokens.weight": values(vocabulary, hidden),
        "model.norm.weight": values(hidden, about=1.0),
        "output.weight" if fused else "lm_head.weight": values(vocabulary, hidden, spread=0.04),  # logits of order 1
    }
    for layer in range(text["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        if fused:
            out[at + "attention.wqkv.weight"] = values(hidden + 2 * keys, hidden)
            out[at + "attention.wo.weight"] = values(hidden, hidden)
            if text["bias"]:
                out[at + "attention.wqkv.bias"], out[at + "attention.wo.bias"] = (
                    values(hidden + 2 * keys),
                    values(hidden),
                )
            out[at + "feed_forward.w1.weight"] = values(inner, hidden)
            out[at + "feed_forward.w3.weight"] = values(inner, hidden)
            out[at + "feed_forward.w2.weight"] = values(hidden, inner)
            out[at + "attention_norm.weight"], out[at + "ffn_norm.weight"] = (
                values(hidden, about=1.0),
                values(hidden, about=1.0),
            )
            continue
        out[at + "self_attn.o_proj.weight"] = values(hidden, hidden)
        if kind == "phi3":
            out[at + "self_attn.qkv_proj.weight"] = values(hidden + 2 * keys, hidden)
            out[at + "mlp.gate_up_proj.weight"] = values(2 * inner, hidden)
        else:
            for part, rows in (("q", hidden), ("k", keys), ("v", keys)):
                out[at + f"self_attn.{part}_proj.weight"] = values(rows, hidden)
                if kind == "qwen2":
                    out[at + f"self_attn.{part}_proj.bias"] = values(rows)
            out[at + "mlp.gate_proj.weight"], out[at + "mlp.up_proj.weight"] = (
                values(inner, hidden),
                values(inner, hidden),
            )
        out[at + "mlp.down_proj.weight"] = values(hidden, inner)
        out[at + "input_layernorm.weight"] = values(hidden, about=1.0)
        out[at + "post_attention_layernorm.weight"] = values(hidden, about=1.0)
    return out


def save_original(
    folder: Path,
    kind: str = "internlm2",
    *,
    top: dict[str, Any] | None = None,
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    files: str = "one",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Write a checkpoint; its config and tensors are returned.

    Args:
        top, vision, text: keys of the three configs that differ from the usual ones.
        files: ``one`` (safetensors), ``several``, ``bin`` or ``bins``.
    """
    folder.mkdir(parents=True)
    vocabulary = TOKENIZERS[kind](folder)
    config = {
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLChatModel"},
        "model_type": "internvl_chat",
        **{"downsample_ratio": 0.5, "dynamic_image_size": True, "force_image_size": SIDE, "use_thumbnail": True},
        **{
            "min_dynamic_patch": 1,
            "max_dynamic_patch": 12,
            "pad2square": False,
            "ps_version": "v2",
            "select_layer": -1,
        },
        **{"template": FORMS[kind], "torch_dtype": "bfloat16", "use_backbone_lora": 0, "use_llm_lora": 0},
        **{"transformers_version": "4.37.2", "_commit_hash": None},
        "llm_config": text_config(kind, vocabulary, **(text or {})),
        "vision_config": vision_config(**(vision or {})),
        **(top or {}),
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_internvl_chat.py").write_text("raise RuntimeError('code of a checkpoint was run')\n")
    (folder / "LICENSE").write_text("MIT\n")
    tensors = {name: tensor.to(dtype) for name, tensor in random_tensors(config, seed).items()}
    if (text or {}).get("tie_word_embeddings"):
        del tensors["language_model.lm_head.weight"]
    write_weights(folder, tensors, files)
    return config, tensors


def write_weights(folder: Path, tensors: dict[str, Tensor], files: str) -> None:
    """The weight files alone."""
    names = list(tensors)
    several = files in ("several", "bins")
    suffix, stem = ("bin", "pytorch_model") if files.startswith("bin") else ("safetensors", "model")
    parts = [names[0::3], names[1::3], names[2::3]] if several else [names]
    weight_map = {}
    for number, part in enumerate(parts, 1):
        name = f"{stem}-{number:05}-of-{len(parts):05}.{suffix}" if several else f"{stem}.{suffix}"
        chosen = {one: tensors[one] for one in part}
        if suffix == "bin":
            torch.save(chosen, folder / name)
        else:
            save_file(chosen, folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, name))
    if several:
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
