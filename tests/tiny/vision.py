"""Vision encoders of a few kilobytes, for each library.

What a spec needs of each:

- transformers: ``{"library": "transformers", "name": str(save_tiny_transformers(folder, kind)), "image_size": 32}``, kinds in
  ``TRANSFORMERS_KINDS``: grid 4 x 4, 32 dimensions, 2 blocks.
- timm: ``{"library": "timm", "name": name, "weights": "random", "image_size": 32}``, names in ``TIMM_VITS`` (grid 4 x 4, 32
  dimensions, 2 blocks); and timm's own test models, such as ``test_convnext`` (stride 32: size 64 gives a grid of 2 x 2).
- open_clip: ``{"library": "open_clip", "name": add_tiny_open_clip(folder), "weights": "random", "image_size": 32}``, also with
  ``kind`` ``quickgelu``, ``timm``, ``resnet`` or ``coca``.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    Aimv2VisionConfig,
    AutoConfig,
    AutoModel,
    CLIPImageProcessor,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
    InternVLVisionConfig,
    PretrainedConfig,
    Siglip2ImageProcessor,
    Siglip2VisionConfig,
    SiglipImageProcessor,
    SiglipVisionConfig,
    ViTConfig,
)

from tests.tiny.timm_models import default_cfgs

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
NO_WIDTH = {key: value for key, value in SHAPE.items() if key != "intermediate_size"}  # DINOv2 has a ratio instead
TEXT = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}

TRANSFORMERS_KINDS = (
    "clip",
    "siglip",
    "siglip2_naflex",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "vit",
    "internvl_vision",
    "aimv2",
    "smolvlm_vision",
    "idefics3_vision",
    "clip_dual",
    "siglip_dual",
    "siglip2_dual",
    "aimv2_dual",
)
TIMM_VITS = tuple(default_cfgs)

_NAFLEX = {key: value for key, value in SHAPE.items() if key != "image_size"} | {"num_patches": 16}


def add_tiny_open_clip(folder: Path, kind: str = "vit") -> str:
    """Teach open_clip a tiny model for pictures of 32 pixels; returns its name.

    Args:
        kind: ``vit`` (64 dimensions, patches of 8 pixels, class token, exact GELU), ``quickgelu`` (the same with
            QuickGELU), ``coca`` (attention pooling), ``timm`` (tiny_siglip from timm) or ``resnet`` (open_clip's own).
    """
    import open_clip

    vision: dict[str, Any] = {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8}
    if kind == "timm":
        vision = {"image_size": 32, "timm_model_name": "tiny_siglip", "timm_pool": "map", "timm_proj": "none"}
    elif kind == "resnet":
        vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
    elif kind == "coca":
        vision |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    width = 32 if kind == "timm" else 16
    config = {"embed_dim": width, "quick_gelu": kind == "quickgelu", "vision_cfg": vision, "text_cfg": text}
    file = folder / ("tiny-clip.json" if kind == "vit" else f"tiny-{kind}.json")
    file.write_text(json.dumps(config))
    open_clip.add_model_config(file)
    return file.stem


def save_tiny_transformers(folder: Path, kind: str, resample: int = 2, **options: Any) -> Path:
    """A random encoder with its preprocessing, as on the hub.

    Args:
        kind: one of ``TRANSFORMERS_KINDS``; those that end in ``_dual`` have a text side too.
        resample: filter of the preprocessing, as PIL numbers them.
        options: fields of the config that differ from the tiny ones.
    """
    torch.manual_seed(7)
    model = shake(AutoModel.from_config(tiny_config(kind, **options)))
    processor: Any
    if kind in ("siglip", "siglip_dual"):
        processor = SiglipImageProcessor(resample=resample, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    elif kind in ("siglip2_naflex", "siglip2_dual"):
        processor = Siglip2ImageProcessor(resample=resample, patch_size=8, max_num_patches=16)
    else:
        processor = CLIPImageProcessor(resample=resample)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def tiny_config(kind: str, **options: Any) -> PretrainedConfig:
    """Config of a kind of ``save_tiny_transformers``."""
    if kind.endswith("_dual"):
        name = kind.removesuffix("_dual")
        vision = _NAFLEX if name == "siglip2" else SHAPE
        return AutoConfig.for_model(name, vision_config=vision | options, text_config=TEXT, projection_dim=32)
    if kind in ("clip", "smolvlm_vision", "idefics3_vision"):
        return AutoConfig.for_model({"clip": "clip_vision_model"}.get(kind, kind), **SHAPE | options)
    kinds: dict[str, Any] = {
        "siglip": (SiglipVisionConfig, SHAPE),
        "siglip2_naflex": (Siglip2VisionConfig, _NAFLEX),
        "dinov2": (Dinov2Config, NO_WIDTH | {"layerscale_value": 0.5}),
        "dinov2_with_registers": (Dinov2WithRegistersConfig, NO_WIDTH | {"layerscale_value": 0.5}),
        "dinov3_vit": (DINOv3ViTConfig, SHAPE | {"num_register_tokens": 3}),
        "vit": (ViTConfig, SHAPE),
        "internvl_vision": (InternVLVisionConfig, SHAPE),
        "aimv2": (Aimv2VisionConfig, SHAPE),
    }
    config, shape = kinds[kind]
    return config(**shape | options)


def shake(model: nn.Module) -> nn.Module:
    """Move every parameter off its start: zeros, ones and tiny values would hide what is lost or swapped."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model
