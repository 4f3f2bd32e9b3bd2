"""Tiny timm models with the parts of well-known ones, added to timm's own registry when this file is imported.

All take pictures of 32 x 32, give a grid of 4 x 4 tokens of 32 dimensions, and have 2 blocks of 2 heads.
"""

from functools import partial
from typing import Any

import timm
from timm.layers import LayerNorm
from timm.models import register_model
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

SHAPE = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
CLIP_NORM = partial(LayerNorm, eps=1e-5)

# What timm knows of a model beside its code; TimmWrapper and our encoders read it.
default_cfgs = {
    name: {
        "url": "",
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "pool_size": None,
        "fixed_input_size": True,
        "interpolation": "bicubic",
        "mean": (0.5, 0.4, 0.3),
        "std": (0.5, 0.6, 0.7),
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }
    for name in (
        "tiny_siglip",
        "tiny_siglip_gap",
        "tiny_siglip_tanh",
        "tiny_clip",
        "tiny_clip_quickgelu",
        "tiny_dinov2",
        "tiny_dinov2_reg",
        "tiny_vit",
        "tiny_deit3_reg",
        "tiny_dinov3",
    )
}


def _build(model_class: Any, name: str, kwargs: dict[str, Any], **options: Any) -> Any:
    for key in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):  # timm's own builders take these off too
        kwargs.pop(key, None)
    model = model_class(**{**SHAPE, "num_classes": 10, **options, **kwargs})
    config: Any = timm.get_pretrained_cfg(name)
    model.pretrained_cfg = model.default_cfg = {**config.to_dict(), "architecture": name}
    return model


def _vit(name: str, kwargs: dict[str, Any], **options: Any) -> VisionTransformer:
    return _build(VisionTransformer, name, kwargs, **options)


@register_model
def tiny_siglip(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """As vit_base_patch16_siglip_224: no class token, attention pooling, exact GELU."""
    return _vit("tiny_siglip", kwargs, class_token=False, global_pool="map")


@register_model
def tiny_siglip_gap(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """As vit_base_patch16_siglip_gap_224: averages, its norm before them."""
    return _vit("tiny_siglip_gap", kwargs, class_token=False, global_pool="avg", fc_norm=False)


@register_model
def tiny_siglip_tanh(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """As vit_so400m_patch14_siglip_gap_448 and other SigLIP 2: tanh approximation of GELU."""
    return _vit("tiny_siglip_tanh", kwargs, class_token=False, global_pool="map", act_layer="gelu_tanh")


@register_model
def tiny_clip(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """As vit_base_patch16_clip_224: class token, norm before the blocks, no bias of patches, exact GELU."""
    return _vit("tiny_clip", kwargs, pre_norm=True, norm_layer=CLIP_NORM)


@register_model
def tiny_clip_quickgelu(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """As vit_base_patch16_clip_quickgelu_224."""
    return _vit("tiny_clip_quickgelu", kwargs, pre_norm=True, norm_layer=CLIP_NORM, act_layer="quick_gelu")


@register_model
def tiny_dinov2(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """As vit_small_patch14_dinov2: class token, LayerScale."""
    return _vit("tiny_dinov2", kwargs, init_values=0.5)


@register_model
def tiny_dinov2_reg(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """As vit_small_patch14_reg4_dinov2: four registers, positions for patches only."""
    return _vit("tiny_dinov2_reg", kwargs, init_values=0.5, reg_tokens=4, no_embed_class=True)


@register_model
def tiny_vit(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """As vit_base_patch16_224: class token, nothing else."""
    return _vit("tiny_vit", kwargs)


@register_model
def tiny_deit3_reg(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """LayerScale, and registers that have positions of their own."""
    return _vit("tiny_deit3_reg", kwargs, init_values=0.5, reg_tokens=2)


@register_model
def tiny_dinov3(pretrained: bool = False, **kwargs: Any) -> Eva:
    """As vit_small_patch16_dinov3: rotary positions, registers, no bias of queries, keys and values."""
    rotary = {"rope_type": "dinov3", "rope_temperature": 100, "rope_rotate_half": True, "use_rot_pos_emb": True}
    return _build(
        Eva,
        "tiny_dinov3",
        kwargs,
        qkv_bias=False,
        init_values=0.5,
        use_abs_pos_emb=False,
        num_reg_tokens=4,
        use_fc_norm=False,
        norm_layer=CLIP_NORM,
        **rotary,
    )
