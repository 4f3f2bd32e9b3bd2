"""Any student as a checkpoint with code of its own: what keeps one out, and its config, state and processor."""

from typing import Any

from torch import Tensor

from taid_vlm.common.plug_ins import PROJECTORS, VISION_ENCODERS, plug_in
from taid_vlm.export.custom.processor import custom_processor
from taid_vlm.export.custom.vision import library_of, vision
from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.targets.common import (
    image_token_id,
    prefixed,
    projector_state,
    text_config,
    thumbnail_obstacle,
    tokens_per_tile,
)
from taid_vlm.export.targets.target import Native, Obstacle, Target
from taid_vlm.models.projectors.registry import projector_options

PACKAGES = {"timm": "timm", "open_clip": "open_clip_torch"}


def obstacles(facts: Facts) -> list[Obstacle]:
    """What keeps a student out: only pictures that no stock processor prepares."""
    if not facts.sees:
        return [Obstacle("a plain language model has no pictures", "export to language_model")]
    images = facts.images
    if images.style == "lfm2_vl":
        return [
            Obstacle(
                "the stock processor of images.style lfm2_vl cuts pictures into patches that only Lfm2Vl itself takes",
                "set images.style to plain, internvl or smolvlm",
            )
        ]
    if images.style == "plain" and images.tiling != "none":
        return [
            Obstacle(
                "no stock processor writes several tiles without markers around them",
                "set images.style to internvl, or images.tiling to none",
            )
        ]
    return thumbnail_obstacle(facts)


def native(parts: Parts) -> Native:
    """The student as TaidVlmForConditionalGeneration."""
    from taid_vlm.export.custom.code.configuration_taid_vlm import TaidVlmConfig
    from taid_vlm.export.custom.code.modeling_taid_vlm import TaidVlmForConditionalGeneration

    facts = parts.facts
    assert facts.projector is not None
    vision_config, vision_state = vision(parts)
    text = text_config(parts)
    text.tie_word_embeddings = facts.tied
    text.name_or_path = ""  # a folder of the machine that trained, of no use to others
    config = TaidVlmConfig(
        vision_config=vision_config,
        text_config=text,
        projector=facts.projector,
        projector_options=_options(parts),
        image_token_id=image_token_id(parts),
        tokens_per_tile=tokens_per_tile(parts),
        logit_scale=facts.scaling.scale,
        logit_softcap=facts.scaling.softcap,
        head_bias=facts.head_bias,
        tie_word_embeddings=facts.tied,
    )
    # Saving a class writes its own entry; this one is for runtimes that bring a head of their own.
    config.auto_map = {"AutoModel": "modeling_taid_vlm.TaidVlmModel"}
    state = prefixed("model.vision_encoder.backbone.", vision_state)
    state |= prefixed("model.projector.", projector_state(parts))
    state |= _text_state(parts)
    return Native(config, state, custom_processor(parts), _notes(parts), TaidVlmForConditionalGeneration)


def pixel_inputs(pixel_values: Tensor, facts: Facts) -> dict[str, Tensor]:
    """``[tiles, 3, size, size]``, or as SmolVLM's processor gives them: ``[1, tiles, 3, size, size]``."""
    return {"pixel_values": pixel_values.unsqueeze(0) if facts.images.style == "smolvlm" else pixel_values}


def _options(parts: Parts) -> dict[str, Any]:
    """All options of the projector but those that follow from the sizes."""
    assert parts.spec.projector is not None
    given = {**projector_options(parts.spec.projector.name), **parts.spec.projector.options}
    return {name: value for name, value in given.items() if value is not None}


def _text_state(parts: Parts) -> dict[str, Tensor]:
    """The language model without its head, and the head; the scale of the logits stays a factor."""
    language_model: Any = parts.student.language_model
    head = {name: tensor.detach() for name, tensor in parts.student.head.state_dict().items()}
    base = language_model.base_model.state_dict()
    return prefixed("model.language_model.", base) | prefixed("lm_head.", head)


def _notes(parts: Parts) -> tuple[str, ...]:
    found = ["The checkpoint runs code of its own: load it with trust_remote_code=True."]
    package = PACKAGES.get(library_of(parts))
    if package is not None:
        found.append(f"Its vision encoder needs `pip install {package}`.")
    assert parts.spec.projector is not None
    for what, outside in (
        ("vision encoder", plug_in(VISION_ENCODERS, library_of(parts))),
        ("projector", plug_in(PROJECTORS, parts.spec.projector.name)),
    ):
        if outside is not None:
            found.append(f"Its {what} needs the package `{outside.package}`, here {outside.version}, and taid-vlm.")
    if parts.facts.images.style == "smolvlm":
        found.append("Its processor needs `pip install num2words`.")
    return tuple(found)


CUSTOM = Target("custom", "TaidVlmForConditionalGeneration", obstacles, native, pixel_inputs)
