"""Conversations on which an exported checkpoint must say what the student says."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taid_vlm.export.facts import Parts
from taid_vlm.export.gate import Probe
from taid_vlm.export.targets import Target
from taid_vlm.models.generate import greedy_ids
from taid_vlm.models.student import ModelInputs

NEW_TOKENS = 6


def text_probe(parts: Parts) -> Probe:
    """A question in words."""
    return _probe(parts, "What is the colour of the sky?", [], None, {})


def picture_probes(parts: Parts, target: Target, scratch: Path) -> list[Probe]:
    """A picture as large as a tile, one of another shape, and two in one conversation."""
    facts = parts.facts
    assert facts.contract is not None
    size = facts.contract.image.size
    # Where the stock processor keeps the shape of a picture, only squares are prepared alike.
    others = [] if target.name == "lfm2_vl" else [(3 * size // 2, size)]
    sets = [[(size, size)], *([shape] for shape in others), [(size, size), *(others or [(size, size)])]]
    found = []
    for number, shapes in enumerate(sets):
        pictures = [_picture(*shape) for shape in shapes]
        content: list[dict[str, Any]] = []
        for index, picture in enumerate(pictures):
            file = scratch / f"probe-{number}-{index}.png"
            picture.save(file)
            content += [{"type": "image", "path": str(file)}, {"type": "text", "text": "What is it?"}]
        pixels = parts.processor.pixel_values(pictures)
        found.append(_probe(parts, content, shapes, pixels, target.pixel_inputs(pixels, facts)))
    return found


@torch.no_grad()
def _probe(
    parts: Parts,
    content: str | list[dict[str, Any]],
    sizes: list[tuple[int, int]],
    pixels: Tensor | None,
    inputs: dict[str, Tensor],
) -> Probe:
    student, processor = parts.student, parts.processor
    messages = [{"role": "user", "content": content}]
    ids = processor.render(messages, add_generation_prompt=True, sizes=sizes).ids
    given = ModelInputs(
        torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long), torch.zeros(0, dtype=torch.long), pixels
    )
    embeddings = student.embed(given)
    logits = student.language_model(inputs_embeds=embeddings, attention_mask=given.attention_mask).logits.float()
    out = greedy_ids(student, processor, embeddings, given.attention_mask, NEW_TOKENS)
    return Probe(messages, ids, inputs, logits, out[0].tolist())


def _picture(width: int, height: int) -> Image.Image:
    """Smooth colours that differ everywhere, so that a shifted or swapped tile shows and resizing hardly does."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = (x, y, 0.5 + 0.5 * np.sin(5 * x + 3 * y))
    return Image.fromarray((np.stack(channels, -1) * 230 + 10).astype(np.uint8))
