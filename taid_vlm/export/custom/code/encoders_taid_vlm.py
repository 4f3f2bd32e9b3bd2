"""Vision encoders of transformers, timm, open_clip and plug-ins: how one is built from its config, and how features are read from it."""

from collections.abc import Callable
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from .configuration_taid_vlm import TaidVlmVisionConfig


def build_backbone(config: TaidVlmVisionConfig) -> nn.Module:
    """The library's module, without pretrained weights.

    Raises:
        ImportError: the library is not installed.
    """
    if config.library == "transformers":
        return AutoModel.from_config(config.tower_config, trust_remote_code=False)
    # timm computes tensors that are in no checkpoint while it builds: on the meta device they would be lost.
    with torch.device("cpu"):
        return BUILDERS.get(config.library, _build_plug_in)(config)


def read_features(backbone: nn.Module, pixel_values: Tensor, config: TaidVlmVisionConfig) -> Tensor:
    """Pixels ``[tiles, 3, size, size]`` to features ``[tiles, prefix + cells, width]``, or the map that the encoder gives."""
    if config.library == "transformers":
        return _read_tower(backbone, pixel_values, config)
    if config.library not in BUILDERS:
        return backbone.read_features(backbone, pixel_values)  # type: ignore[operator]
    if config.library == "timm" or config.source["vision_cfg"].get("timm_model_name"):
        return _read_timm(backbone, pixel_values, config)
    return _read_open_clip(backbone, pixel_values, config)


def as_tokens(features: Tensor, layout: str) -> Tensor:
    """A map, if it is one, as tokens in row order."""
    if layout == "NCHW":
        return features.flatten(2).transpose(1, 2)
    return features.flatten(1, 2) if layout == "NHWC" else features


def _build_timm(config: TaidVlmVisionConfig) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise ImportError("the vision encoder of this checkpoint is timm's: pip install timm") from error
    model: Any = timm.create_model(config.source["architecture"], pretrained=False, **config.source["model_args"])
    model.reset_classifier(0)
    return model


def _build_open_clip(config: TaidVlmVisionConfig) -> nn.Module:
    try:
        import open_clip
    except ImportError as error:
        raise ImportError(
            "the vision encoder of this checkpoint is open_clip's: pip install open_clip_torch"
        ) from error
    # Its towers are built by its models alone; of the text side, which is thrown away, the least.
    text = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}
    visual: Any = open_clip.CLIP(**config.source, text_cfg=text).visual
    if not config.source["vision_cfg"].get("timm_model_name"):
        return visual
    visual.set_input_size(config.image_size)
    return visual.trunk


def _build_plug_in(config: TaidVlmVisionConfig) -> nn.Module:
    found = list(entry_points(group="taid_vlm.vision_encoders", name=config.library))
    if not found:
        raise ImportError(
            f"the vision encoder library {config.library!r} of this checkpoint is of a package that its card names: pip install it"
        )
    source = found[0].load()(SimpleNamespace(**config.source), "random")
    source.backbone.read_features = source.read
    return source.backbone


BUILDERS: dict[str, Callable[[TaidVlmVisionConfig], nn.Module]] = {
    "timm": _build_timm,
    "open_clip": _build_open_clip,
}


def _read_tower(tower: Any, pixel_values: Tensor, config: TaidVlmVisionConfig) -> Tensor:
    if tower.config.model_type == "siglip2_vision_model":
        arguments = _patches(pixel_values, tower.config.patch_size)
    else:
        arguments = {"pixel_values": pixel_values}
    if config.feature == "normed":
        return tower(**arguments).last_hidden_state
    # A list keeps only the states named in it; releases that do not know lists keep all, which gives the same.
    return tower(**arguments, output_hidden_states=[config.feature]).hidden_states[config.feature]


def _patches(pixel_values: Tensor, patch: int) -> dict[str, Any]:
    """Pictures as SigLIP 2 takes them: ``[tiles, cells, patch * patch * 3]``."""
    rows, columns = pixel_values.shape[-2] // patch, pixel_values.shape[-1] // patch
    cells = pixel_values.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))
    cells = cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    shapes = torch.tensor([[rows, columns]] * len(pixel_values), device=pixel_values.device)
    return {"pixel_values": cells, "spatial_shapes": shapes, "pixel_attention_mask": None}


def _read_timm(model: Any, pixel_values: Tensor, config: TaidVlmVisionConfig) -> Tensor:
    if config.feature == "normed":
        return model.forward_features(pixel_values)
    options: dict[str, Any] = {"output_fmt": "NLC"} if config.layout == "NLC" else {}
    if config.prefix_tokens:
        options["return_prefix_tokens"] = True
    (found,) = model.forward_intermediates(
        pixel_values, indices=[config.feature], norm=False, stop_early=True, intermediates_only=True, **options
    )
    return torch.cat([found[1], found[0]], dim=1) if config.prefix_tokens else found


def _read_open_clip(tower: Any, pixel_values: Tensor, config: TaidVlmVisionConfig) -> Tensor:
    normed = config.feature == "normed"
    options: dict[str, Any] = {"indices": [-1 if normed else config.feature], "intermediates_only": True}
    if config.layout == "NCHW":  # its ResNet, which has no final norm
        return tower.forward_intermediates(pixel_values, **options)["image_intermediates"][0]
    out = tower.forward_intermediates(
        pixel_values,
        stop_early=True,
        normalize_intermediates=normed,
        output_fmt="NLC",
        output_extra_tokens=True,
        **options,
    )
    return torch.cat([out["image_intermediates_prefix"][0], out["image_intermediates"][0]], dim=1)
