"""Vision towers from transformers: a vision checkpoint, or the image side of a dual one."""

from collections.abc import Callable
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.paths import resolve
from taid_vlm.common.remote_code import refusal
from taid_vlm.models.encoders.contract import Feature, ImageInput, Read, Source, check_block, first_line
from taid_vlm.models.encoders.weights import load_weights
from taid_vlm.models.specs import VisionEncoderSpec

# Values of PIL.Image.Resampling.
FILTER_NAMES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}

# Models of an image and a text side; the image side is their vision_model and vision_config.
DUAL_MODELS = ("clip", "siglip", "siglip2", "aimv2")


@dataclass(frozen=True)
class Tower:
    """How the towers of one model_type are read.

    Attributes:
        prefix: class and register tokens, from the config.
        other_sizes: whether pictures of another size than the config's are taken: ``itself``, ``asked`` (with
            ``interpolate_pos_encoding=True``) or ``never``.
        arguments: ``(pixel_values, config)`` to the arguments of the tower's forward.
    """

    prefix: Callable[[Any], int]
    other_sizes: Literal["itself", "asked", "never"] = "itself"
    arguments: Callable[[Tensor, Any], dict[str, Any]] = lambda pixels, config: {"pixel_values": pixels}


def cut_into_patches(pixel_values: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """Pictures ``[images, 3, size, size]`` as cells ``[images, cells, patch * patch * 3]``, and ``[images, 2]`` rows and columns."""
    rows, columns = pixel_values.shape[-2] // patch, pixel_values.shape[-1] // patch
    cells = pixel_values.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))
    cells = cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    shapes = torch.tensor([[rows, columns]] * len(pixel_values), device=pixel_values.device)
    return cells, shapes


def patches(pixel_values: Tensor, config: Any) -> dict[str, Any]:
    """Pictures as SigLIP 2 (NaFlex) takes them."""
    cells, shapes = cut_into_patches(pixel_values, config.patch_size)
    return {"pixel_values": cells, "spatial_shapes": shapes, "pixel_attention_mask": None}


def _none(config: Any) -> int:
    return 0


def _class_token(config: Any) -> int:
    return 1


def _class_and_registers(config: Any) -> int:
    return 1 + config.num_register_tokens


TOWERS = {
    "aimv2_vision_model": Tower(_none, "never"),
    "clip_vision_model": Tower(_class_token, "asked"),
    "dinov2": Tower(_class_token),
    "dinov2_with_registers": Tower(_class_and_registers),
    "dinov3_vit": Tower(_class_and_registers),
    "idefics3_vision": Tower(_none),
    "internvl_vision": Tower(_class_token),
    "siglip2_vision_model": Tower(_none, arguments=patches),
    "siglip_vision_model": Tower(_none, "asked"),
    "smolvlm_vision": Tower(_none),
    "vit": Tower(_class_token, "asked"),
}


def transformers_source(spec: VisionEncoderSpec, weights: str) -> Source:
    """The vision tower of a transformers checkpoint.

    Raises:
        UserError: nothing there, a model_type without an entry above, a size, a filter or a block that it does not have.
    """
    from transformers import AutoImageProcessor

    source = resolve(spec.name)
    try:
        config, backbone = _load(source, weights)
        processor: Any = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, UnpicklingError) as error:
        if why := refusal(error):
            raise UserError(f"cannot load the vision encoder {spec.name!r}: {why}") from error
        raise UserError(
            f"cannot load the vision encoder {spec.name!r}: {first_line(error)}. Give a hub id, or a folder written as "
            f"./folder that holds the model and its preprocessor_config.json"
        ) from error
    load_weights(backbone, weights, spec.weights_match)
    tower = TOWERS[config.model_type]
    if tower.other_sizes == "never" and not config.is_native and spec.image_size != config.image_size:
        raise UserError(
            f"vision_encoder.image_size is {spec.image_size}, but {spec.name!r} ({config.model_type}) takes pictures of "
            f"{config.image_size} x {config.image_size} only: set image_size: {config.image_size}"
        )
    check_block(spec.name, spec.feature, config.num_hidden_layers)
    image = ImageInput(
        spec.image_size,
        tuple(processor.image_mean),
        tuple(processor.image_std),
        spec.interpolation or _filter(spec, processor.resample),
    )
    patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    prefix = tower.prefix(config)
    on_meta = next(backbone.parameters()).is_meta  # where the towers that look at values cannot run
    shape = (prefix + (spec.image_size // patch) ** 2, config.hidden_size) if on_meta else None
    return Source(backbone, _read(tower, spec.feature), image, config.model_type, prefix, shape=shape)


def _load(source: str, weights: str) -> tuple[Any, nn.Module]:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    dual = config.model_type in DUAL_MODELS
    tower_config = config.vision_config if dual else config
    if tower_config.model_type not in TOWERS:
        raise UserError(
            f"{source} holds a {config.model_type!r}, which is no vision tower that is known here: "
            f"{did_you_mean(config.model_type, [*TOWERS, *DUAL_MODELS])}. timm and open_clip have most other encoders"
        )
    if weights != "pretrained":
        return tower_config, AutoModel.from_config(tower_config, trust_remote_code=False)
    model = AutoModel.from_pretrained(source, trust_remote_code=False)
    backbone = model.vision_model if dual else model
    return backbone.config, backbone


def _filter(spec: VisionEncoderSpec, resample: Any) -> str:
    if resample is None:
        return "bicubic"
    if int(resample) not in FILTER_NAMES:
        raise UserError(
            f"the preprocessing of {spec.name!r} resizes with filter number {int(resample)}, expected one of {FILTER_NAMES}: "
            f"set vision_encoder.interpolation"
        )
    return FILTER_NAMES[int(resample)]


def _read(tower: Tower, feature: Feature) -> Read:
    sizes = {"interpolate_pos_encoding": True} if tower.other_sizes == "asked" else {}

    def final(model: nn.Module, pixel_values: Tensor) -> Tensor:
        return model(**tower.arguments(pixel_values, model.config), **sizes).last_hidden_state

    def block(model: nn.Module, pixel_values: Tensor) -> Tensor:
        # A list keeps only the states named in it; releases that do not know lists keep all, which gives the same.
        out = model(**tower.arguments(pixel_values, model.config), **sizes, output_hidden_states=[feature])
        return out.hidden_states[feature]

    return final if feature == "normed" else block
