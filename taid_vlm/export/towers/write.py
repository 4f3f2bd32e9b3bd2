"""Plain ViTs as towers of transformers: config and weights, each by its model_type.

A writer raises :class:`NotConvertible` when the encoder has a part that its class has not, or lacks one that it has.
"""

from typing import Any

import torch
from torch import Tensor

from taid_vlm.export.towers.names import CLIP, DINOV2, SIGLIP, VIT, Names, from_plain
from taid_vlm.export.towers.plain_vit import NotConvertible, PlainViT

Written = tuple[dict[str, Any], dict[str, Tensor]]


def siglip(vit: PlainViT) -> Written:
    """SiglipVisionModel without its pooling head."""
    fields, state = smolvlm(vit)
    return fields | {"vision_use_head": False}, state


def smolvlm(vit: PlainViT) -> Written:
    """SmolVLMVisionTransformer and Idefics3VisionTransformer."""
    vit.refuse("class_token", "registers", "norm_pre.weight", "blocks.0.scale1")
    vit.need("positions", "patch.bias", "norm.weight")
    return _fields(vit), from_plain(vit.tensors, SIGLIP, vit.blocks) | _no_qkv_bias(vit, SIGLIP)


def siglip2(vit: PlainViT) -> Written:
    """Siglip2VisionModel (NaFlex): patches come cut out, so that the convolution is a linear layer."""
    fields, state = siglip(vit)
    name = "embeddings.patch_embedding.weight"
    state[name] = state[name].permute(0, 2, 3, 1).flatten(1)
    del fields["image_size"]
    return fields | {"num_patches": len(vit.tensors["positions"])}, state


def clip(vit: PlainViT) -> Written:
    """CLIPVisionModel; its last_hidden_state is before the final norm, which only its pooling reads."""
    vit.refuse("registers", "patch.bias", "blocks.0.scale1")
    vit.need("class_token", "positions", "norm_pre.weight", "norm.weight")
    state = from_plain(vit.tensors, CLIP, vit.blocks) | _no_qkv_bias(vit, CLIP)
    state["embeddings.position_embedding.weight"] = _positions(vit)
    return _fields(vit), state


def dinov2(vit: PlainViT) -> Written:
    """Dinov2Model."""
    vit.refuse("registers")
    return _dinov2(vit)


def dinov2_with_registers(vit: PlainViT) -> Written:
    """Dinov2WithRegistersModel."""
    vit.need("registers")
    fields, state = _dinov2(vit)
    registers = vit.tensors["registers"]
    state["embeddings.register_tokens"] = registers[None]
    return fields | {"num_register_tokens": len(registers)}, state


def _dinov2(vit: PlainViT) -> Written:
    vit.refuse("norm_pre.weight")
    vit.need("class_token", "positions", "patch.bias", "norm.weight", "blocks.0.scale1")
    if vit.inner % vit.width:
        raise NotConvertible(f"its MLP is {vit.inner} wide, which is no multiple of {vit.width}")
    fields = _fields(vit) | {"mlp_ratio": vit.inner // vit.width, "qkv_bias": _has_qkv_bias(vit)}
    del fields["intermediate_size"]
    state = from_plain(vit.tensors, DINOV2, vit.blocks) | _class_and_positions(vit)
    # Stands for hidden patches in pre-training; the class keeps a place for it.
    state["embeddings.mask_token"] = vit.tensors["class_token"].new_zeros(1, vit.width)
    return fields, state


def vit(vit: PlainViT) -> Written:
    """ViTModel; its pooler, which is not read, is zero."""
    vit.refuse("registers", "norm_pre.weight", "blocks.0.scale1")
    vit.need("class_token", "positions", "patch.bias", "norm.weight")
    state = from_plain(vit.tensors, VIT, vit.blocks) | _class_and_positions(vit)
    state["pooler.dense.weight"] = vit.tensors["class_token"].new_zeros(vit.width, vit.width)
    state["pooler.dense.bias"] = vit.tensors["class_token"].new_zeros(vit.width)
    return _fields(vit) | {"qkv_bias": _has_qkv_bias(vit)}, state


WRITERS = {
    "siglip_vision_model": siglip,
    "siglip2_vision_model": siglip2,
    "smolvlm_vision": smolvlm,
    "idefics3_vision": smolvlm,
    "clip_vision_model": clip,
    "dinov2": dinov2,
    "dinov2_with_registers": dinov2_with_registers,
    "vit": vit,
}


def _fields(vit: PlainViT) -> dict[str, Any]:
    return {
        "hidden_size": vit.width,
        "intermediate_size": vit.inner,
        "num_hidden_layers": vit.blocks,
        "num_attention_heads": vit.heads,
        "num_channels": 3,
        "image_size": vit.image_size,
        "patch_size": vit.patch_size,
        "hidden_act": vit.activation,
        "layer_norm_eps": vit.eps,
    }


def _positions(vit: PlainViT) -> Tensor:
    """``[1 + cells, width]``."""
    return torch.cat([vit.tensors["class_position"][None], vit.tensors["positions"]])


def _class_and_positions(vit: PlainViT) -> dict[str, Tensor]:
    return {
        "embeddings.cls_token": vit.tensors["class_token"][None, None],
        "embeddings.position_embeddings": _positions(vit)[None],
    }


def _has_qkv_bias(vit: PlainViT) -> bool:
    return "blocks.0.q.bias" in vit.tensors


def _no_qkv_bias(vit: PlainViT, names: Names) -> dict[str, Tensor]:
    """Zeros where the class has biases and the encoder has none."""
    if _has_qkv_bias(vit):
        return {}
    zero = vit.tensors["blocks.0.q.weight"].new_zeros(vit.width)
    return {
        f"{names.blocks}.{index}.{names.block[part]}.bias": zero
        for index in range(vit.blocks)
        for part in ("q", "k", "v")
    }
