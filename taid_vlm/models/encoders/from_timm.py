"""Encoders from timm: vision transformers, and CNNs and other models that give a map."""

from typing import Any

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.models.encoders.contract import (
    Feature,
    ImageInput,
    Layout,
    Read,
    Source,
    check_block,
    first_line,
    shape_of_features,
)
from taid_vlm.models.encoders.weights import load_weights
from taid_vlm.models.specs import VisionEncoderSpec


def timm_source(spec: VisionEncoderSpec, weights: str) -> Source:
    """Any timm model that gives tokens or one map.

    Raises:
        UserError: unknown model, missing or unfitting weight file, or a block that it does not have.
    """
    import timm

    if not timm.is_model(spec.name):
        raise UserError(f"timm has no model {spec.name!r}: {did_you_mean(spec.name, timm.list_models())}")
    options: dict[str, Any] = {}
    config = timm.get_pretrained_cfg(spec.name)
    if config is not None and config.fixed_input_size:
        options["img_size"] = spec.image_size
    try:
        backbone: Any = timm.create_model(spec.name, pretrained=weights == "pretrained", **options)
    except (OSError, RuntimeError, AssertionError) as error:
        raise UserError(
            f"timm cannot build {spec.name!r} for pictures of {spec.image_size} x {spec.image_size} with weights: {weights}: "
            f"{first_line(error)}. Choose another image_size, or give a weight file or weights: random"
        ) from error
    load_weights(backbone, weights, spec.weights_match)
    backbone.reset_classifier(0)  # the classifier is not part of the encoder; weight files have it
    data = timm.data.resolve_model_data_config(backbone)
    image = ImageInput(spec.image_size, tuple(data["mean"]), tuple(data["std"]), data["interpolation"])
    return wrap_timm(backbone, image, spec, (backbone.pretrained_cfg["architecture"], options))


def wrap_timm(
    backbone: nn.Module, image: ImageInput, spec: VisionEncoderSpec, timm_model: tuple[str, dict[str, Any]]
) -> Source:
    """A built timm model as a source; its family follows from the shape of what it gives."""
    prefix = getattr(backbone, "num_prefix_tokens", 0)  # models that are no transformers do not have it
    if spec.feature != "normed":
        if not hasattr(backbone, "forward_intermediates"):
            raise UserError(
                f"timm's {spec.name!r} gives no output of single blocks: set vision_encoder.feature: normed"
            )
        check_block(spec.name, spec.feature, len(backbone.feature_info))  # type: ignore[arg-type]
    final = shape_of_features(spec.name, backbone, _final, image.size)
    shape = final if spec.feature == "normed" else None
    if len(final) == 2:
        return Source(backbone, _read(spec.feature, prefix), image, "timm_vit", prefix, "NLC", timm_model, shape)
    # Blocks come as NCHW from all models; the final output of some (Swin, MambaOut) has channels last, and they say so.
    channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    family = "timm_other" if channels_last else "timm_cnn"
    layout: Layout = "NHWC" if channels_last and spec.feature == "normed" else "NCHW"
    return Source(backbone, _read_map(spec.feature), image, family, 0, layout, timm_model, shape)


def _final(model: nn.Module, pixel_values: Tensor) -> Tensor:
    return model.forward_features(pixel_values)  # type: ignore[operator]


def _read(feature: Feature, prefix: int) -> Read:
    def block(model: nn.Module, pixel_values: Tensor) -> Tensor:
        # Asked for prefix tokens that they do not have, some models of timm fail.
        options: dict[str, Any] = {"return_prefix_tokens": True} if prefix else {}
        (found,) = model.forward_intermediates(  # type: ignore[operator]
            pixel_values,
            indices=[feature],
            norm=False,
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
            **options,
        )
        return torch.cat([found[1], found[0]], dim=1) if prefix else found

    return _final if feature == "normed" else block


def _read_map(feature: Feature) -> Read:
    def stage(model: nn.Module, pixel_values: Tensor) -> Tensor:
        (found,) = model.forward_intermediates(  # type: ignore[operator]
            pixel_values, indices=[feature], norm=False, stop_early=True, intermediates_only=True
        )
        return found

    return _final if feature == "normed" else stage
