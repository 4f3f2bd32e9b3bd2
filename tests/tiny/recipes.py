"""Recipes over tiny parts, and what their runs logged."""

import json
from pathlib import Path
from typing import Any

from taid_vlm.recipe import Recipe


def tiny_recipe(language_model: Path, easy_vqa: Path, **changes: Any) -> Recipe:
    """A vision-language SFT recipe with a random tiny CNN; ``changes`` replace top-level keys."""
    content: dict[str, Any] = {
        "student": {
            "vision_encoder": {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64},
            "projector": {"name": "mlp"},
            "language_model": {"source": str(language_model), "layers": 2},
            "image_token": "<empty_output>",
            "train": {"projector": {"mode": "full", "lr": 1e-2}, "language_model": {"mode": "full", "lr": 2e-2}},
        },
        "data": {
            "train": [{"kind": "easy_vqa", "path": str(easy_vqa)}],
            "validation": [{"kind": "easy_vqa", "path": str(easy_vqa), "split": "test"}],
            "cache_image_features": True,
        },
        "loss": {"name": "sft"},
        "training": {"steps": 8, "batch_size": 4, "lr": 5e-3, "checkpoint_every": 2, "precision": "fp32"},
    }
    return Recipe.model_validate({**content, **changes})


def distil(language_model: Path, easy_vqa: Path, checkpoint: Path, cache: bool = True, **changes: Any) -> Recipe:
    """The tiny recipe with a teacher; ``changes`` replace top-level keys."""
    content = {
        "teacher": {"checkpoint": str(checkpoint), "cache": {"enabled": cache}},
        "loss": {"name": "taid", "alpha_total": 20.0},
    }
    return tiny_recipe(language_model, easy_vqa, **{**content, **changes})


def logged_steps(run_dir: Path) -> list[dict[str, Any]]:
    """The figures of each training step."""
    return [row for row in map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines()) if "loss" in row]
