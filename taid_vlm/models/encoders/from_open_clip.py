"""Image towers from open_clip: its own ViT and ResNet, and those that it takes from timm."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.models.encoders.contract import Feature, ImageInput, Read, Source, check_block, first_line
from taid_vlm.models.encoders.from_timm import wrap_timm
from taid_vlm.models.encoders.weights import load_weights
from taid_vlm.models.specs import VisionEncoderSpec

STAGES = 5  # of ModifiedResNet: the stem and four layers


def open_clip_source(spec: VisionEncoderSpec, weights: str) -> Source:
    """The image tower of an open_clip model.

    Raises:
        UserError: unknown model or no weights for it, an unfitting weight file, a block that it does not have, or a
            final norm that is not applied to tokens.
    """
    import open_clip
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if open_clip.get_model_config(spec.name) is None:
        raise UserError(f"open_clip has no model {spec.name!r}: {did_you_mean(spec.name, open_clip.list_models())}")
    tags = open_clip.list_pretrained_tags_by_model(spec.name)
    if weights == "pretrained" and not tags:
        raise UserError(
            f"open_clip has no pretrained weights for {spec.name!r}; give a weight file, or weights: random"
        )
    tag = tags[0] if weights == "pretrained" else None
    # open_clip moves what it built to a device, which fails if a surrounding torch.device("meta") is not named.
    device = torch.empty(0).device
    try:
        # The text side is built too, and thrown away; some models fetch its config from the hub.
        visual: Any = open_clip.create_model(
            spec.name, pretrained=tag, force_image_size=spec.image_size, device=device, pretrained_text=False
        ).visual
    except (OSError, RuntimeError, AssertionError) as error:
        raise UserError(
            f"open_clip cannot build {spec.name!r} for pictures of {spec.image_size} x {spec.image_size} with weights: {weights}: "
            f"{first_line(error)}. Choose another image_size, or give a weight file or weights: random"
        ) from error
    load_weights(visual, weights, spec.weights_match)
    preprocess = visual.preprocess_cfg
    image = ImageInput(
        spec.image_size, tuple(preprocess["mean"]), tuple(preprocess["std"]), preprocess["interpolation"]
    )
    if type(visual) is TimmModel:
        return _timm_tower(visual, image, spec)
    if type(visual) is VisionTransformer:
        check_block(spec.name, spec.feature, len(visual.transformer.resblocks))
        if spec.feature == "normed" and visual.attn_pool is not None:
            raise UserError(
                f"the final norm of open_clip's {spec.name!r} comes after attention pooling and is not for tokens: set "
                f"vision_encoder.feature: -1"
            )
        # One class token, always: open_clip's own forward takes the first token off.
        return Source(visual, _read_vit(spec.feature), image, "open_clip_vit", prefix_tokens=1)
    if type(visual) is ModifiedResNet:
        check_block(spec.name, spec.feature, STAGES)
        return Source(visual, _read_resnet(spec.feature), image, "open_clip_other", layout="NCHW")
    raise UserError(
        f"open_clip's {spec.name!r} has an image tower of class {type(visual).__name__}, expected VisionTransformer, TimmModel "
        f"or ModifiedResNet: choose another model, or take the tower from timm or transformers"
    )


def _timm_tower(visual: nn.Module, image: ImageInput, spec: VisionEncoderSpec) -> Source:
    import timm

    trunk: Any = visual.trunk
    name = trunk.pretrained_cfg["architecture"]
    config: Any = timm.get_pretrained_cfg(name)
    source = wrap_timm(trunk, image, spec, (name, {"img_size": image.size} if config.fixed_input_size else {}))
    return replace(source, family="open_clip_timm")


def _read_vit(feature: Feature) -> Read:
    normed = feature == "normed"
    index = -1 if feature == "normed" else feature

    def read(tower: nn.Module, pixel_values: Tensor) -> Tensor:
        out = tower.forward_intermediates(  # type: ignore[operator]
            pixel_values,
            indices=[index],
            stop_early=True,
            normalize_intermediates=normed,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        return torch.cat([out["image_intermediates_prefix"][0], out["image_intermediates"][0]], dim=1)

    return read


def _read_resnet(feature: Feature) -> Read:
    index = -1 if feature == "normed" else feature  # it has no final norm

    def read(tower: nn.Module, pixel_values: Tensor) -> Tensor:
        out = tower.forward_intermediates(pixel_values, indices=[index], intermediates_only=True)  # type: ignore[operator]
        return out["image_intermediates"][0]

    return read
