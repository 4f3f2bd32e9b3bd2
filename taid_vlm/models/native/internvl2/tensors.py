"""What each tensor of the original layout is in the stock class, and the config of that class."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from taid_vlm.common.errors import UserError
from taid_vlm.models.native.internvl2.language_models import LANGUAGE_MODELS, Cut, Pieces, text_config, whole
from taid_vlm.models.native.internvl2.original import Original

VISION = "vision_model."
TOWER = "model.vision_tower."
EMBEDDINGS = {
    "embeddings.class_embedding": "embeddings.cls_token",
    "embeddings.position_embedding": "embeddings.position_embeddings",
    "embeddings.patch_embedding.weight": "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embedding.bias": "embeddings.patch_embeddings.projection.bias",
}
LAYER = {
    "attn.proj.weight": "attention.projection_layer.weight",
    "attn.proj.bias": "attention.projection_layer.bias",
    "attn.q_norm.weight": "attention.q_norm.weight",
    "attn.k_norm.weight": "attention.k_norm.weight",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
    **{f"mlp.fc{n}.{kind}": f"mlp.fc{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")},
    **{f"norm1.{kind}": f"layernorm_before.{kind}" for kind in ("weight", "bias")},
    **{f"norm2.{kind}": f"layernorm_after.{kind}" for kind in ("weight", "bias")},
}
PROJECTOR = {
    f"mlp1.{index}.{kind}": f"model.multi_modal_projector.{layer}.{kind}"
    for index, layer in ((0, "layer_norm"), (1, "linear_1"), (3, "linear_2"))
    for kind in ("weight", "bias")
}


def stock_config(original: Original, image_token_id: int) -> Any:
    """InternVLConfig with the same forward.

    Raises:
        UserError: see :func:`text_config`.
    """
    from transformers import InternVLConfig

    text = text_config(original.architecture, original.text)
    vision = vision_arguments(original)
    config: Any = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=image_token_id,
        image_seq_length=original.tokens_per_tile,
        downsample_ratio=float(original.top.get("downsample_ratio", 0.5)),
        vision_feature_layer=int(original.top.get("select_layer", -1)),
        tie_word_embeddings=text.tie_word_embeddings,  # true unless said otherwise, and then an untied head is not loaded
    )
    config.architectures = ["InternVLForConditionalGeneration"]
    config.vision_config.architectures = ["InternVLVisionModel"]
    config.image_backend = (
        "pil"  # of the two stock image processors the one with the original's pixels; asked for when it is opened here
    )
    if (stored := getattr(torch, str(original.top.get("torch_dtype")), None)) is not None:
        set_dtype(config, stored)
    return config


def set_dtype(config: Any, dtype: torch.dtype) -> None:
    """What transformers opens the model in with ``dtype="auto"``."""
    for one in (config, config.text_config, config.vision_config):
        one.dtype = dtype


def vision_arguments(original: Original) -> dict[str, Any]:
    """Arguments of InternVLVisionConfig; what is left out has the default of the original class."""
    vision = original.vision
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size")
    return {
        **{name: vision[name] for name in names},
        "patch_size": vision.get("patch_size", 14),
        "num_channels": vision.get("num_channels", 3),
        "hidden_act": vision.get("hidden_act", "gelu"),
        "norm_type": vision.get("norm_type", "rms_norm"),
        "layer_norm_eps": vision.get("layer_norm_eps", 1e-6),
        "attention_bias": bool(vision.get("qkv_bias", False)),
        "use_qk_norm": bool(vision.get("qk_normalization", True)),
        "attention_dropout": vision.get("attention_dropout", 0.0),
        "projection_dropout": vision.get("dropout", 0.0),
        "use_absolute_position_embeddings": True,
        "use_mean_pooling": True,  # the class has no last norm then, as the original
    }


def pieces_of(original: Original, name: str) -> Pieces | None:
    """Native names of an original tensor, with what of it each is; None where the name is not known."""
    if name in PROJECTOR:
        return [(PROJECTOR[name], whole)]
    if name.startswith(VISION):
        return _vision_pieces(name.removeprefix(VISION))
    if name.startswith("language_model."):
        return LANGUAGE_MODELS.get(original.architecture).pieces(name.removeprefix("language_model."), original.text)
    return None


def _vision_pieces(name: str) -> Pieces | None:
    if name in EMBEDDINGS:
        return [(TOWER + EMBEDDINGS[name], whole)]
    match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name)
    if match is None:
        return None
    layer, inner = f"{TOWER}encoder.layer.{match[1]}", match[2]
    if inner in LAYER:
        return [(f"{layer}.{LAYER[inner]}", whole)]
    if inner in ("attn.qkv.weight", "attn.qkv.bias"):
        kind = inner.rpartition(".")[2]
        return [(f"{layer}.attention.{part}_proj.{kind}", third(place)) for place, part in enumerate("qkv")]
    return None


def third(place: int) -> Cut:
    """One of three equal parts of the rows."""
    return lambda tensor: tensor.chunk(3)[place]


Shape = tuple[int, ...]
Plan = dict[str, tuple[str, Cut, Shape]]  # native name: original name, what of it, shape


def plan_tensors(original: Original, found: Mapping[str, Shape], config: Any) -> Plan:
    """Where each native tensor comes from; nothing but names and shapes is looked at.

    Raises:
        UserError: tensors that are not known, missing, or of another shape than the stock class has.
    """
    plan: Plan = {}
    unknown = []
    for name, shape in found.items():
        pieces = pieces_of(original, name)
        if pieces is None:
            unknown.append(name)
            continue
        for native, cut in pieces:
            try:
                plan[native] = (name, cut, tuple(cut(torch.empty(shape, device="meta")).shape))
            except (RuntimeError, IndexError) as error:
                raise UserError(f"{name} of the checkpoint has shape {shape}, which does not split: {error}") from error
    wanted = _wanted(config)
    if config.tie_word_embeddings and "lm_head.weight" not in plan:
        wanted.pop("lm_head.weight")
    missing = [name for name in wanted if name not in plan]
    surplus = [plan[name][0] for name in plan if name not in wanted]
    wrong = [
        f"{name} {plan[name][2]} instead of {shape}"
        for name, shape in wanted.items()
        if name in plan and plan[name][2] != shape
    ]
    if unknown or surplus or missing or wrong:
        raise UserError(
            f"the weights in {original.folder} are not those of this layout: {len(unknown) + len(surplus)} unknown {(unknown + surplus)[:3]}, "
            f"{len(missing)} missing {missing[:3]}, {len(wrong)} of another shape {wrong[:3]}. An adapter or another version of the model? "
            f"Nothing was written"
        )
    return plan


def _wanted(config: Any) -> dict[str, Shape]:
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
