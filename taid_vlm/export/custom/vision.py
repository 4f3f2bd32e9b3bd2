"""The encoder's part of the config, and its weights."""

from typing import Any

from torch import Tensor

from taid_vlm.export.facts import Parts
from taid_vlm.export.towers import convert_tower
from taid_vlm.models.encoders.from_transformers import TOWERS
from taid_vlm.models.vision_encoder import VisionEncoder


def library_of(parts: Parts) -> str:
    """The library that builds the encoder in the checkpoint: the one that it was trained with."""
    assert parts.spec.vision_encoder is not None
    assert parts.student.vision_encoder is not None
    # A plug-in may bring a tower of transformers, which transformers builds itself.
    tower = parts.student.vision_encoder.contract.family in TOWERS
    return "transformers" if tower else parts.spec.vision_encoder.library


def vision(parts: Parts) -> tuple[Any, dict[str, Tensor]]:
    """The config ``TaidVlmVisionConfig``, and the backbone's weights by its own names."""
    from taid_vlm.export.custom.code.configuration_taid_vlm import TaidVlmVisionConfig

    encoder = parts.student.vision_encoder
    assert encoder is not None
    contract = encoder.contract
    tower, source = None, None
    state = {name: tensor.detach() for name, tensor in encoder.backbone.state_dict().items()}
    if contract.family in TOWERS:
        # As itself, with positions for the size that it was trained at.
        tower, state = convert_tower(encoder, contract.family)
        tower.name_or_path = ""
    elif library_of(parts) == "timm":
        source = _timm_source(encoder)
    elif library_of(parts) == "open_clip":
        source = _open_clip_source(parts)
    else:
        assert parts.spec.vision_encoder is not None
        source = parts.spec.vision_encoder.model_dump(mode="json") | {"weights": "random"}
    config = TaidVlmVisionConfig(
        library=library_of(parts),
        tower_config=tower,
        source=source,
        feature=contract.feature,
        prefix_tokens=contract.source_prefix_tokens,
        dropped_tokens=contract.source_prefix_tokens - contract.prefix_tokens,
        layout=contract.layout,
        hidden_size=contract.feature_dim,
        grid=list(contract.grid),
        image_size=contract.image.size,
    )
    return config, state


def _timm_source(encoder: VisionEncoder) -> dict[str, Any]:
    assert encoder.timm_model is not None
    name, options = encoder.timm_model
    return {"architecture": name, "model_args": options}


def _open_clip_source(parts: Parts) -> dict[str, Any]:
    """The image side of open_clip's model config, so that nothing is looked up when the checkpoint is loaded."""
    import open_clip

    spec = parts.spec.vision_encoder
    assert spec is not None
    found: Any = open_clip.get_model_config(spec.name)
    tower = {**found["vision_cfg"], "image_size": spec.image_size}
    if "timm_model_name" in tower:
        tower["timm_model_pretrained"] = False
    return {"embed_dim": found["embed_dim"], "vision_cfg": tower, "quick_gelu": found.get("quick_gelu", False)}
