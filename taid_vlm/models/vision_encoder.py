"""Vision encoders from timm, open_clip or transformers, behind one contract.

Whatever the library, a picture becomes ``[batch, tokens, feature_dim]`` after the encoder's last norm, with class and register
tokens removed, so that the tokens are the cells of ``grid`` in row order. From transformers it is ``last_hidden_state``, which CLIP alone
gives before its last norm; LLaVA reads it so too.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve
from taid_vlm.models.specs import VisionEncoderSpec


@dataclass(frozen=True)
class ImageInput:
    """What the encoder expects of a picture: side in pixels, per-channel mean and std of values in [0, 1], filter."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


@dataclass(frozen=True)
class EncoderContract:
    """What the other parts need to know of an encoder.

    Attributes:
        feature_dim: width of a token.
        grid: rows and columns of tokens, in row order.
        image: preprocessing.
        prefix_tokens: class and register tokens kept before those of the grid; 0 where they are dropped.
        layout: how the source gives its features, NLC (tokens) or NCHW (a map); what comes out of the encoder is tokens.
        family: exact name of the architecture, for exports: transformers' model_type, or timm_vit, timm_cnn,
            open_clip_vit, ...
    """

    feature_dim: int
    grid: tuple[int, int]
    image: ImageInput
    prefix_tokens: int = 0
    layout: Literal["NLC", "NCHW"] = "NLC"
    family: str = ""


class VisionEncoder(nn.Module):
    """A backbone and the function that reads token features from it.

    Attributes:
        contract: feature dimension, grid and preprocessing.
    """

    def __init__(self, backbone: nn.Module, read: Callable[[nn.Module, Tensor], Tensor], image: ImageInput) -> None:
        super().__init__()
        self.backbone = backbone
        self._read = read
        with torch.no_grad():
            self.eval()
            features = read(backbone, torch.zeros(1, 3, image.size, image.size))
        side = round(features.shape[1] ** 0.5)
        if side * side != features.shape[1]:
            raise UserError(
                f"the vision encoder gives {features.shape[1]} tokens for a {image.size} x {image.size} picture, which is not a "
                f"square grid; choose another image_size or encoder"
            )
        self.contract = EncoderContract(features.shape[2], (side, side), image)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Pixels ``[images, 3, size, size]`` (normalised) to features ``[images, tokens, feature_dim]``."""
        return self._read(self.backbone, pixel_values)


def build_vision_encoder(spec: VisionEncoderSpec, load_weights: bool = True) -> VisionEncoder:
    """Build the encoder that ``spec`` names.

    Args:
        load_weights: False when the caller fills in all weights itself (a saved student).

    Raises:
        UserError: unknown model, missing or unfitting weight file, a grid that is not square.
    """
    weights = spec.weights if load_weights else "random"
    build = {"timm": _timm, "open_clip": _open_clip, "transformers": _transformers}[spec.library]
    backbone, read, image = build(spec, weights)
    if weights not in ("pretrained", "random"):
        _load_file(backbone, Path(resolve(weights)), spec.weights_match)
    if spec.library == "timm":
        backbone.reset_classifier(0)  # type: ignore[operator]  # the classifier is not part of the encoder; weight files have it
    if spec.interpolation is not None:
        image = ImageInput(image.size, image.mean, image.std, spec.interpolation)
    return VisionEncoder(backbone, read, image)


def _timm(spec: VisionEncoderSpec, weights: str) -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor], ImageInput]:
    import timm

    if not timm.is_model(spec.name):
        close = timm.list_models(f"*{spec.name[:6]}*")[:5]
        raise UserError(f"timm has no model {spec.name!r}; close names: {', '.join(close) or 'none'}")
    options: dict[str, Any] = {"pretrained": weights == "pretrained"}
    config = timm.get_pretrained_cfg(spec.name)
    if config is not None and config.fixed_input_size:
        options["img_size"] = spec.image_size
    backbone = timm.create_model(spec.name, **options)
    data = timm.data.resolve_model_data_config(backbone)
    image = ImageInput(spec.image_size, tuple(data["mean"]), tuple(data["std"]), data["interpolation"])

    def read(model: nn.Module, pixel_values: Tensor) -> Tensor:
        features = model.forward_features(pixel_values)  # type: ignore[operator]
        if features.ndim == 4:
            if getattr(model, "output_fmt", "NCHW") == "NHWC":
                return features.flatten(1, 2)
            return features.flatten(2).transpose(1, 2)
        return features[:, getattr(model, "num_prefix_tokens", 0) :]

    return backbone, read, image


def _open_clip(
    spec: VisionEncoderSpec, weights: str
) -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor], ImageInput]:
    import open_clip

    if open_clip.get_model_config(spec.name) is None:
        raise UserError(f"open_clip has no model {spec.name!r}; `open_clip.list_models()` lists them")
    tags = open_clip.list_pretrained_tags_by_model(spec.name)
    if weights == "pretrained" and not tags:
        raise UserError(
            f"open_clip has no pretrained weights for {spec.name!r}; give a weight file, or weights: random"
        )
    tag = tags[0] if weights == "pretrained" else None
    model = open_clip.create_model(spec.name, pretrained=tag, force_image_size=spec.image_size)
    visual = model.visual
    mean = getattr(visual, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN
    std = getattr(visual, "image_std", None) or open_clip.OPENAI_DATASET_STD
    image = ImageInput(spec.image_size, tuple(mean), tuple(std), "bicubic")

    def read(tower: nn.Module, pixel_values: Tensor) -> Tensor:
        out = tower.forward_intermediates(  # type: ignore[operator]
            pixel_values, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
        )
        return out["image_intermediates"][-1]

    return visual, read, image


def _transformers(
    spec: VisionEncoderSpec, weights: str
) -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor], ImageInput]:
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    source = resolve(spec.name)
    try:
        config = AutoConfig.from_pretrained(source)
        model = AutoModel.from_pretrained(source) if weights == "pretrained" else AutoModel.from_config(config)
        processor = AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot load the vision encoder {spec.name!r}: {str(error).splitlines()[0]}. Give a hub id, or a folder written as "
            f"./folder that holds the model and its preprocessor_config.json"
        ) from error
    backbone = getattr(model, "vision_model", model)
    names = {0: "nearest", 2: "bilinear", 3: "bicubic"}
    resample = getattr(processor, "resample", None)
    filter_name = "bicubic" if resample is None else names.get(int(resample), "bicubic")
    image = ImageInput(spec.image_size, tuple(processor.image_mean), tuple(processor.image_std), filter_name)
    takes_other_sizes = "interpolate_pos_encoding" in inspect.signature(backbone.forward).parameters
    patch = backbone.config.patch_size

    def read(tower: nn.Module, pixel_values: Tensor) -> Tensor:
        options = {"interpolate_pos_encoding": True} if takes_other_sizes else {}
        features = tower(pixel_values, **options).last_hidden_state
        cells = (pixel_values.shape[-2] // patch) * (pixel_values.shape[-1] // patch)
        return features[:, features.shape[1] - cells :]  # class and register tokens come first

    return backbone, read, image


def _load_file(backbone: nn.Module, path: Path, match: str) -> None:
    if not path.is_file():
        raise UserError(
            f"vision encoder weights not found: {path}; give a file, asset:NAME/path, 'pretrained' or 'random'"
        )
    if path.suffix == ".safetensors":
        found = load_file(path)
    else:
        found = torch.load(path, map_location="cpu", weights_only=True)
    expected = backbone.state_dict()
    if match == "order":
        found = _match_by_order(found, expected, path)
    missing = [k for k in expected if k not in found and not k.endswith("num_batches_tracked")]
    wrong = [k for k, v in found.items() if k in expected and v.shape != expected[k].shape]
    surplus = [k for k in found if k not in expected]
    if missing or wrong or surplus:
        raise UserError(
            f"{path.name} does not fit the vision encoder: {len(missing)} parameters missing {missing[:3]}, {len(surplus)} unknown "
            f"{surplus[:3]}, {len(wrong)} of another shape {wrong[:3]}. If only the names differ, set weights_match: order"
        )
    backbone.load_state_dict(found, strict=False)


def _match_by_order(found: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    # Batch counters are not weights, and old checkpoints lack them.
    have = [v for k, v in found.items() if not k.endswith("num_batches_tracked")]
    want = [(k, v) for k, v in expected.items() if not k.endswith("num_batches_tracked")]
    if len(have) != len(want) or any(a.shape != b.shape for a, (_, b) in zip(have, want, strict=False)):
        raise UserError(
            f"{path.name} does not fit the vision encoder in order: it holds {len(have)} tensors, the model {len(want)}, and every "
            f"pair must have one shape; check that the file belongs to this architecture"
        )
    return {k: a for a, (k, _) in zip(have, want, strict=True)}
