"""Vision encoders of a few kilobytes, one for each library."""

import json
from pathlib import Path

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def add_tiny_open_clip(folder: Path) -> str:
    """Teach open_clip a tiny ViT of 64 dimensions and patches of 8 pixels; returns its name."""
    import open_clip

    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    file = folder / "tiny-clip.json"
    file.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(file)
    return file.stem


def save_tiny_transformers(folder: Path, kind: str, resample: int = 2) -> Path:
    """A random encoder with its preprocessing, as on the hub: ``clip``, ``siglip`` or ``dinov2``."""
    torch.manual_seed(7)
    model: PreTrainedModel
    if kind == "clip":
        model, processor = CLIPVisionModel(CLIPVisionConfig(**SHAPE)), CLIPImageProcessor(resample=resample)
    elif kind == "siglip":
        model = SiglipVisionModel(SiglipVisionConfig(**SHAPE))
        processor = SiglipImageProcessor(resample=resample, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    else:
        model, processor = Dinov2Model(Dinov2Config(**SHAPE)), CLIPImageProcessor(resample=resample)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
