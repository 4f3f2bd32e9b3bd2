"""The stock processor of a checkpoint with code: which one follows from ``images.style``."""

from typing import Any

from taid_vlm.export.facts import Parts
from taid_vlm.export.processors import llava_processor
from taid_vlm.export.targets.internvl import internvl_processor
from taid_vlm.export.targets.smolvlm import smolvlm_processor


def custom_processor(parts: Parts) -> Any:
    """A processor that writes as many placeholders for a tile as the projector makes tokens of it.

    Raises:
        UserError: a package that the processor needs is not installed.
    """
    assert parts.processor.images is not None
    images = parts.processor.images
    if images.spec.style == "internvl":
        return internvl_processor(parts)
    if images.spec.style == "smolvlm":
        return smolvlm_processor(parts)
    patch, additional = patches_for(images.input.size, images.per_tile)
    processor = llava_processor(parts, "full", additional)
    processor.patch_size = patch
    return processor


def patches_for(size: int, tokens: int) -> tuple[int, int]:
    """Patch size and additional tokens with which LlavaProcessor writes ``tokens`` placeholders.

    It writes ``(size // patch)**2 + additional``. What the patches cannot make up, the additional tokens do: a resampler's
    tokens, say, are no square.
    """
    fitting = [patch for patch in range(1, size + 1) if (size // patch) ** 2 <= tokens]
    patch = min(fitting, key=lambda p: (tokens - (size // p) ** 2, -p))
    return patch, tokens - (size // patch) ** 2
