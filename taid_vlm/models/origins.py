"""Where the pretrained parts of a student are from."""

from typing import NamedTuple

from taid_vlm.common.origins import Origin, origin_of
from taid_vlm.models.specs import StudentSpec, VisionEncoderSpec


class PartOrigin(NamedTuple):
    """A part of a student. ``origin`` is None where it began with random numbers."""

    part: str
    name: str
    origin: Origin | None


def part_origins(spec: StudentSpec) -> list[PartOrigin]:
    """Language model, vision encoder and projector, those that there are."""
    model = spec.language_model
    found = origin_of(model.source, revision=model.revision)
    parts = [PartOrigin("language model", found.name, found)]
    if spec.vision_encoder is not None and spec.projector is not None:
        encoder, projector = spec.vision_encoder, spec.projector
        named = encoder_origin(encoder)
        name = named.name if named is not None and encoder.library == "transformers" else encoder.name
        parts.append(PartOrigin("vision encoder", f"{name} ({encoder.library})", named))
        random = projector.weights == "random"
        parts.append(PartOrigin("projector", projector.name, None if random else origin_of(projector.weights)))
    return parts


def encoder_origin(spec: VisionEncoderSpec) -> Origin | None:
    """Where its weights are from; None for random ones."""
    if spec.weights == "random":
        return None
    if spec.weights != "pretrained":
        return origin_of(spec.weights)
    if spec.library == "timm":
        from timm.models import get_pretrained_cfg

        config = get_pretrained_cfg(spec.name)
        if config is not None and config.hf_hub_id:
            return Origin(config.hf_hub_id, config.hf_hub_id, config.license or "unknown")
    return origin_of(spec.name) if spec.library == "transformers" else Origin(spec.name)
