"""Recipes with a cached teacher, and data in which no two samples are alike."""

import json
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image

from taid_vlm.recipe import Recipe
from taid_vlm.training.setup import Setup, prepare
from tests.tiny.data import write_easy_vqa
from tests.tiny.recipes import tiny_recipe


def write_varied_vqa(root: Path) -> Path:
    """The layout of easy-VQA, no two samples alike."""
    write_easy_vqa(root)
    for place, split in enumerate(("train", "test")):
        folder = root / "easy_vqa" / "data" / split
        questions = json.loads((folder / "questions.json").read_text())
        for index, (_, answer, picture) in enumerate(questions):
            Image.new("RGB", (16, 16), (9 * index, 200 * place, 50)).save(folder / "images" / f"{picture}.png")
            questions[index] = ["what color? " + "well? " * (index % 4), answer, picture]
        (folder / "questions.json").write_text(json.dumps(questions))
    return root


def distil(language_model: Path, data: Path, checkpoint: Path, **cache: Any) -> Recipe:
    teacher = {"checkpoint": str(checkpoint), "cache": {"enabled": True, **cache}}
    return tiny_recipe(language_model, data, teacher=teacher, loss={"name": "kl"})


def language_recipe(language_model: Path, folder: Path, **changes: Any) -> Recipe:
    """A plain language model learns from another."""
    content: dict[str, Any] = {
        "student": {"language_model": {"source": str(language_model), "layers": 2}},
        "teacher": {"language_model": {"source": str(folder)}, "cache": {"enabled": True}},
        "data": {"train": [{"kind": "jsonl", "path": str(folder / "talk.jsonl")}]},
        "loss": {"name": "kl"},
    }
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"{n}?"},
                {"role": "assistant", "content": "so " * (1 + n % 5) + str(n)},
            ]
        }
        for n in range(20)
    ]
    (folder / "talk.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tiny_recipe(language_model, folder, **{**content, **changes})


def set_up(recipe: Recipe) -> Setup:
    return prepare(recipe, Accelerator(cpu=True), None, "fp32", lambda text: None)


def all_ids(setup: Setup) -> list[str]:
    parts = [part for part in (setup.train, setup.validation) if part is not None]
    return [record.id for part in parts for record in part.records]


def taken(setup: Setup, ids: list[str] | None = None) -> torch.Tensor:
    assert setup.cache is not None
    found = setup.cache.take(all_ids(setup) if ids is None else ids)
    assert isinstance(found, torch.Tensor)
    return found
