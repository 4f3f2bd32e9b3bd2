"""The config of a checkpoint in the original layout, read and checked.

A key that is not known here may change the forward, so it is refused, unless its value is empty, false or zero.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError

MODEL_TYPE = "internvl_chat"

# What transformers writes into every config, and what concerns training alone.
IGNORED = {
    *(
        "architectures",
        "attn_implementation",
        "auto_map",
        "dtype",
        "id2label",
        "initializer_factor",
        "initializer_range",
    ),
    *(
        "label2id",
        "model_type",
        "output_attentions",
        "return_dict",
        "torch_dtype",
        "transformers_version",
        "use_bfloat16",
    ),
    *("use_cache", "use_flash_attn", "drop_path_rate"),
    # generation
    *("diversity_penalty", "length_penalty", "max_length", "min_length", "num_beam_groups", "num_beams"),
    *("num_return_sequences", "repetition_penalty", "temperature", "top_k", "top_p", "typical_p"),
}
# Of a mixture of experts that no released vision tower is (use_moe is false).
EXPERTS = {
    *("capacity_factor", "eval_capacity_factor", "laux_allreduce", "moe_coeff_ratio", "moe_intermediate_size"),
    *("moe_output_scale", "noisy_gate_policy", "num_experts", "num_routed_experts", "num_shared_experts"),
    *("shared_expert_intermediate_size", "use_residual"),
}
TOP = {
    *("downsample_ratio", "dynamic_image_size", "force_image_size", "hidden_size", "llm_config", "max_dynamic_patch"),
    *("min_dynamic_patch", "ps_version", "select_layer", "system_message", "template", "tie_word_embeddings"),
    *("use_thumbnail", "vision_config", "pad2square", "use_backbone_lora", "use_llm_lora"),
}
VISION = {
    *("attention_dropout", "dropout", "hidden_act", "hidden_size", "image_size", "intermediate_size", "layer_norm_eps"),
    *(
        "norm_type",
        "num_attention_heads",
        "num_channels",
        "num_hidden_layers",
        "patch_size",
        "qk_normalization",
        "qkv_bias",
    ),
}


@dataclass(frozen=True)
class Original:
    """A checkpoint's configs as they are written.

    Attributes:
        architecture: class of its language model.
    """

    folder: Path
    top: Mapping[str, Any]
    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    architecture: str

    @property
    def image_size(self) -> int:
        """Side of a tile in pixels."""
        return int(self.top.get("force_image_size") or self.vision["image_size"])

    @property
    def tokens_per_tile(self) -> int:
        """After pixel shuffle."""
        side = self.image_size // int(self.vision["patch_size"])
        return int(side**2 * float(self.top.get("downsample_ratio", 0.5)) ** 2)


def is_original(folder: Path) -> bool:
    """Whether a folder holds a checkpoint in this layout."""
    try:
        return json.loads((folder / "config.json").read_text()).get("model_type") == MODEL_TYPE
    except (OSError, ValueError, AttributeError):
        return False


def read_original(folder: Path) -> Original:
    """The configs of a checkpoint.

    Raises:
        UserError: no such checkpoint, or one whose forward the stock class does not have; the message says what differs.
    """
    try:
        top = json.loads((folder / "config.json").read_text())
        found = top["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} holds no config.json of a model ({error}); the folder of a checkpoint was expected"
        ) from error
    if found != MODEL_TYPE:
        raise UserError(f"{folder} holds a {found!r}, expected model_type {MODEL_TYPE!r}: InternVL2 as it was released")
    vision, text = top.get("vision_config") or {}, top.get("llm_config") or {}
    architecture = (text.get("architectures") or ["none"])[0]
    original = Original(folder, top, vision, text, architecture)
    _check_top(original)
    _check_vision(original)
    return original


def check_keys(config: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuse keys of which it is not known what they do.

    Raises:
        UserError: their names and values.
    """
    strange = {
        key: value
        for key, value in config.items()
        if key not in known | IGNORED and not key.startswith("_") and value not in (None, False, 0, "", [], {})
    }
    if strange:
        said = ", ".join(f"{key}: {value!r}" for key, value in list(strange.items())[:5])
        raise UserError(
            f"{where} has keys that are not known here ({said}); they may change the forward, so the checkpoint is not converted. Remove "
            f"from a copy of config.json what does not"
        )


def expect(found: Any, expected: Any, key: str, why: str) -> None:
    """Refuse a value that the stock class does not have.

    Raises:
        UserError: found, expected, and ``why``.
    """
    if found != expected:
        raise UserError(f"{key} of the checkpoint is {found!r}, only {expected!r} can be converted: {why}")


def _check_top(original: Original) -> None:
    top = original.top
    check_keys(top, TOP, "config.json")
    # The defaults are those of the original config class.
    expect(
        top.get("ps_version", "v1"),
        "v2",
        "ps_version",
        "v1 leaves rows and columns of a tile transposed, which the stock class does not",
    )
    expect(bool(top.get("pad2square")), False, "pad2square", "the stock processor does not pad pictures to squares")
    for key in ("use_backbone_lora", "use_llm_lora"):
        expect(int(top.get(key) or 0), 0, key, "merge the adapters into the weights first")
    if not isinstance(top.get("select_layer", -1), int) or top.get("select_layer", -1) >= 0:
        raise UserError(f"select_layer of the checkpoint is {top['select_layer']!r}, expected -1, -2, ...")
    ratio = float(top.get("downsample_ratio", 0.5))
    if ratio not in (1.0, 0.5, 0.25):
        raise UserError(f"downsample_ratio of the checkpoint is {ratio}, expected 0.5 (or 1, or 0.25)")
    dynamic = bool(top.get("dynamic_image_size"))
    if dynamic and not top.get("use_thumbnail") and int(top.get("max_dynamic_patch", 6)) > 1:
        raise UserError(
            "use_thumbnail of the checkpoint is false; the stock processor always adds a thumbnail to several tiles"
        )


def _check_vision(original: Original) -> None:
    vision = original.vision
    missing = [
        key
        for key in ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "image_size")
        if key not in vision
    ]
    if missing:
        raise UserError(f"vision_config of the checkpoint lacks {', '.join(missing)}")
    known = VISION if vision.get("use_moe") else VISION | EXPERTS
    check_keys(vision, known, "vision_config")
    forced = original.top.get("force_image_size") or vision["image_size"]
    expect(
        forced,
        vision["image_size"],
        "force_image_size",
        "its position embeddings are made for vision_config.image_size",
    )
    if vision.get("qk_normalization", True):  # the stock class has no setting for this one
        expect(
            float(vision.get("layer_norm_eps", 1e-6)),
            1e-6,
            "vision_config.layer_norm_eps",
            "the stock norms of queries and keys have this one",
        )
