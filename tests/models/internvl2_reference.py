"""The forward of InternVL2 as its report and its released code describe it, in plain torch on the original tensors.

Nothing of transformers or of the conversion is used, so that equal logits say something. Weights may be float64; positions, RMS norms and the softmax
of the language model are float32 as in the released code, whatever the weights are.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = dict[str, Tensor]


def reference_logits(
    config: dict[str, Any], tensors: Tensors, ids_L: Tensor, pixels: Tensor | None, image_token: int
) -> Tensor:
    """Logits ``[L, V]`` of one sequence; ``pixels`` are its tiles ``[T, 3, S, S]``."""
    text = config["llm_config"]
    inner = {
        name.removeprefix("language_model."): t for name, t in tensors.items() if name.startswith("language_model.")
    }
    table = inner.get("model.tok_embeddings.weight", inner.get("model.embed_tokens.weight"))
    assert table is not None
    states = table[ids_L].clone()
    if pixels is not None:
        states[ids_L == image_token] = picture_tokens(config, tensors, pixels).flatten(0, 1)
    attend = {"internlm2": _internlm2, "qwen2": _separate, "llama": _separate, "phi3": _phi3}[text["model_type"]]
    cos, sin = rotations(text, len(ids_L))
    for layer in range(text["num_hidden_layers"]):
        own = {
            n.removeprefix(f"model.layers.{layer}."): t
            for n, t in inner.items()
            if n.startswith(f"model.layers.{layer}.")
        }
        states = attend(text, own, states, cos, sin)
    states = rms(states, inner["model.norm.weight"], text["rms_norm_eps"])
    head = inner.get("output.weight", inner.get("lm_head.weight", table))
    return states @ head.T


def picture_tokens(config: dict[str, Any], tensors: Tensors, pixels: Tensor) -> Tensor:
    """``[T, N, H]``: InternViT, its class token left out, 2 x 2 cells joined, the projector."""
    vision = config["vision_config"]
    own = {name.removeprefix("vision_model."): t for name, t in tensors.items() if name.startswith("vision_model.")}
    kernel = own["embeddings.patch_embedding.weight"]
    cells = F.conv2d(pixels, kernel, own["embeddings.patch_embedding.bias"], stride=vision["patch_size"]).flatten(2).mT
    states = (
        torch.cat([own["embeddings.class_embedding"].expand(len(pixels), 1, -1), cells], 1)
        + own["embeddings.position_embedding"]
    )
    outputs = [states]
    for layer in range(vision["num_hidden_layers"]):
        at = f"encoder.layers.{layer}."
        states = states + own[at + "ls1"] * _look(vision, own, at, _norm(vision, own, at + "norm1", states))
        wide = F.linear(_norm(vision, own, at + "norm2", states), own[at + "mlp.fc1.weight"], own[at + "mlp.fc1.bias"])
        states = states + own[at + "ls2"] * F.linear(F.gelu(wide), own[at + "mlp.fc2.weight"], own[at + "mlp.fc2.bias"])
        outputs.append(states)
    grid = outputs[config["select_layer"]][:, 1:]
    side = math.isqrt(grid.shape[1])
    joined = []
    for row in range(0, side, 2):
        for column in range(0, side, 2):  # a block's cells: those of its first row, then those of its second
            places = [
                row * side + column,
                row * side + column + 1,
                (row + 1) * side + column,
                (row + 1) * side + column + 1,
            ]
            joined.append(torch.cat([grid[:, place] for place in places], -1))
    blocks = torch.stack(joined, 1)
    blocks = F.layer_norm(blocks, blocks.shape[-1:], tensors["mlp1.0.weight"], tensors["mlp1.0.bias"], 1e-5)
    middle = F.gelu(F.linear(blocks, tensors["mlp1.1.weight"], tensors["mlp1.1.bias"]))
    return F.linear(middle, tensors["mlp1.3.weight"], tensors["mlp1.3.bias"])


def rotations(text: dict[str, Any], length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``[L, D]`` of rotary positions, with the scalings that were released."""
    dim = text["hidden_size"] // text["num_attention_heads"]
    theta, positions, factor = float(text["rope_theta"]), torch.arange(length).float(), 1.0
    scaling, longest = text.get("rope_scaling") or {}, text["max_position_embeddings"]
    steps = torch.arange(0, dim, 2).float() / dim
    kind = scaling.get("type")
    if kind == "dynamic" and length > longest:
        stretch = scaling["factor"] * length / longest - (scaling["factor"] - 1)
        theta = theta * stretch ** (dim / (dim - 2))
    elif kind == "linear":
        positions = positions / scaling["factor"]
    frequencies = 1.0 / theta**steps
    if kind in ("su", "longrope"):
        first = text["original_max_position_embeddings"]
        chosen = scaling["long_factor" if length > first else "short_factor"]
        frequencies = 1.0 / (torch.tensor(chosen) * theta**steps)
        factor = math.sqrt(1 + math.log(longest / first) / math.log(first)) if longest > first else 1.0
    angles = torch.outer(positions, frequencies).repeat(1, 2)
    return angles.cos() * factor, angles.sin() * factor


def rms(states: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = states.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(states.dtype)


def _norm(vision: dict[str, Any], own: Tensors, name: str, states: Tensor) -> Tensor:
    if vision["norm_type"] == "rms_norm":
        return rms(states, own[name + ".weight"], vision["layer_norm_eps"])
    return F.layer_norm(states, states.shape[-1:], own[name + ".weight"], own[name + ".bias"], vision["layer_norm_eps"])


def _look(vision: dict[str, Any], own: Tensors, at: str, states: Tensor) -> Tensor:
    count, cells, width = states.shape
    heads = vision["num_attention_heads"]
    q, k, v = F.linear(states, own[at + "attn.qkv.weight"], own.get(at + "attn.qkv.bias")).split(width, -1)
    if vision["qk_normalization"]:
        q, k = (rms(one, own[at + f"attn.{name}_norm.weight"], 1e-6) for one, name in ((q, "q"), (k, "k")))
    q, k, v = (one.view(count, cells, heads, -1).transpose(1, 2) for one in (q, k, v))
    seen = ((q / math.sqrt(width // heads)) @ k.mT).softmax(-1) @ v
    return F.linear(seen.transpose(1, 2).flatten(2), own[at + "attn.proj.weight"], own[at + "attn.proj.bias"])


def _attention(text: dict[str, Any], q_LQD: Tensor, k_LKD: Tensor, v_LKD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Causal attention with grouped keys, after turning; ``[L, Q * D]``."""

    def turned(x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * cos[:, None].to(x.dtype) + torch.cat([-second, first], -1) * sin[:, None].to(x.dtype)

    group = q_LQD.shape[1] // k_LKD.shape[1]
    q, k, v = turned(q_LQD), turned(k_LKD).repeat_interleave(group, 1), v_LKD.repeat_interleave(group, 1)
    scores = torch.einsum("lhd,mhd->hlm", q, k) / math.sqrt(q.shape[-1])
    hidden = torch.ones(len(q), len(q), dtype=torch.bool).triu(1)
    weights = scores.masked_fill(hidden, -math.inf).softmax(-1, dtype=torch.float32).to(v.dtype)
    return torch.einsum("hlm,mhd->lhd", weights, v).flatten(1)


def _sizes(text: dict[str, Any]) -> tuple[int, int, int]:
    return text["num_attention_heads"], text["num_key_value_heads"], text["hidden_size"] // text["num_attention_heads"]


def _internlm2(text: dict[str, Any], own: Tensors, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    heads, key_heads, dim = _sizes(text)
    group = heads // key_heads
    seen = rms(states, own["attention_norm.weight"], text["rms_norm_eps"])
    fused = F.linear(seen, own["attention.wqkv.weight"], own.get("attention.wqkv.bias"))
    q, k, v = [], [], []
    for key_head in range(key_heads):
        start = key_head * (group + 2) * dim
        rows = [fused[:, start + index * dim : start + (index + 1) * dim] for index in range(group + 2)]
        q += rows[:group]
        k.append(rows[group])
        v.append(rows[group + 1])
    mixed = _attention(text, torch.stack(q, 1), torch.stack(k, 1), torch.stack(v, 1), cos, sin)
    states = states + F.linear(mixed, own["attention.wo.weight"], own.get("attention.wo.bias"))
    seen = rms(states, own["ffn_norm.weight"], text["rms_norm_eps"])
    wide = F.silu(seen @ own["feed_forward.w1.weight"].T) * (seen @ own["feed_forward.w3.weight"].T)
    return states + wide @ own["feed_forward.w2.weight"].T


def _separate(text: dict[str, Any], own: Tensors, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    heads, key_heads, dim = _sizes(text)
    seen = rms(states, own["input_layernorm.weight"], text["rms_norm_eps"])

    def part(name: str, count: int) -> Tensor:
        return F.linear(seen, own[f"self_attn.{name}_proj.weight"], own.get(f"self_attn.{name}_proj.bias")).view(
            -1, count, dim
        )

    mixed = _attention(text, part("q", heads), part("k", key_heads), part("v", key_heads), cos, sin)
    states = states + mixed @ own["self_attn.o_proj.weight"].T
    seen = rms(states, own["post_attention_layernorm.weight"], text["rms_norm_eps"])
    wide = F.silu(seen @ own["mlp.gate_proj.weight"].T) * (seen @ own["mlp.up_proj.weight"].T)
    return states + wide @ own["mlp.down_proj.weight"].T


def _phi3(text: dict[str, Any], own: Tensors, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    heads, key_heads, dim = _sizes(text)
    seen = rms(states, own["input_layernorm.weight"], text["rms_norm_eps"])
    q, k, v = (seen @ own["self_attn.qkv_proj.weight"].T).split([heads * dim, key_heads * dim, key_heads * dim], -1)
    mixed = _attention(text, q.view(-1, heads, dim), k.view(-1, key_heads, dim), v.view(-1, key_heads, dim), cos, sin)
    states = states + mixed @ own["self_attn.o_proj.weight"].T
    seen = rms(states, own["post_attention_layernorm.weight"], text["rms_norm_eps"])
    gate, up = (seen @ own["mlp.gate_up_proj.weight"].T).chunk(2, -1)
    return states + (F.silu(gate) * up) @ own["mlp.down_proj.weight"].T
