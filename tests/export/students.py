"""Tiny students of every combination of parts, trained for one step."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from taid_vlm.models.assemble import build_student
from taid_vlm.models.loaded import LoadedStudent
from taid_vlm.models.processor import Processor
from taid_vlm.models.saved import load_student, save_student
from taid_vlm.models.specs import StudentSpec
from taid_vlm.models.student import ModelInputs, Student
from tests.tiny.language_model import save_tiny_language_model
from tests.tiny.vision import add_tiny_open_clip, save_tiny_transformers

# Library, name, and whether class and register tokens come before the grid.
ENCODERS: dict[str, tuple[str, str]] = {
    "siglip": ("transformers", "siglip"),
    "clip": ("transformers", "clip"),
    "dinov2": ("transformers", "dinov2"),
    "registers": ("transformers", "dinov2_with_registers"),
    "internvit": ("transformers", "internvl_vision"),
    "aimv2": ("transformers", "aimv2"),
    "timm_siglip": ("timm", "tiny_siglip"),
    "timm_vit": ("timm", "test_vit"),
    "timm_cnn": ("timm", "test_convnext"),
    "open_clip": ("open_clip", "vit"),
}
LANGUAGE_MODELS = ("llama", "qwen2", "qwen3", "gemma3_text", "granite", "smollm3")


@dataclass(frozen=True)
class Combination:
    """Names of the parts, and what differs from a recipe's defaults."""

    encoder: str
    projector: str
    language_model: str
    vision: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=dict)


def spec_of(parts: Combination, folder: Path) -> StudentSpec:
    """The spec of a combination, its tiny checkpoints written into ``folder`` where they are not there yet."""
    language_model = folder / "language_models" / parts.language_model
    if not language_model.is_dir():
        save_tiny_language_model(language_model, parts.language_model)
    library, name = ENCODERS[parts.encoder]
    if library == "transformers":
        source = folder / "encoders" / name
        if not source.is_dir():
            save_tiny_transformers(source, name)
        name = str(source)
    elif library == "open_clip":
        name = add_tiny_open_clip(folder, name)
    elif name.startswith("tiny_"):
        import tests.tiny.timm_models  # noqa: F401  # registers them
    size = 160 if name == "test_convnext" else 32 if name != "test_vit" else 64
    return StudentSpec.model_validate(
        {
            "vision_encoder": {
                "library": library,
                "name": name,
                "weights": "pretrained" if library == "transformers" else "random",
                "image_size": size,
                **parts.vision,
            },
            "projector": {"name": parts.projector, "options": parts.options},
            "language_model": {"source": str(language_model)},
            "image_token": "<empty_output>",
            "images": parts.images,
            "added_tokens": ["<img>", "</img>"] if parts.images.get("style") == "internvl" else [],
            "train": {"vision_encoder": {"mode": "full"}},
        }
    )


def trained(parts: Combination, folder: Path, saved: Path) -> LoadedStudent:
    """Assemble, train all parts for one step, save, load."""
    spec = spec_of(parts, folder)
    student, processor = build_student(spec, seed=1)
    one_step(student, processor)
    save_student(student, processor, spec, saved)
    return load_student(saved)


def one_step(student: Student, processor: Processor) -> None:
    """A step of plain gradient descent that reaches every part."""
    assert processor.images is not None
    size = processor.images.input.size
    parts = [{"type": "image"}, {"type": "text", "text": "what?"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "a"}]
    rendered = processor.render(messages, sizes=[(size, size)])
    student.train()
    tiles = processor.tiles_per_image((size, size))
    inputs = ModelInputs(
        torch.tensor([rendered.ids]),
        torch.ones(1, len(rendered.ids), dtype=torch.long),
        torch.arange(len(rendered.ids)),
        torch.randn(tiles, 3, size, size, generator=torch.Generator().manual_seed(0)),
    )
    student(inputs).logsumexp(-1).sum().backward()
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad / (parameter.grad.norm() + 1e-6)
