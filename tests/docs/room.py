"""A folder in which the commands of the pages are typed, word for word, over tiny models.

The shipped recipes of the quickstart are replaced by ones with the same names, a tiny random student and teacher, few pictures and few
steps; the packages with data by folders laid out like them. Everything else is what a user has.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from taid_vlm.cli import app
from taid_vlm.common import paths
from taid_vlm.common.assets import ASSETS
from taid_vlm.recipe import Recipe, loading
from taid_vlm.run import train_and_evaluate
from taid_vlm_eval.cli import main as evaluation
from tests.docs.pages import ROOT, Block, blocks_of
from tests.tiny.data import write_chatterbot, write_easy_vqa

# Pages whose blocks are run, in this order: later ones use what earlier ones made.
PAGES = (
    "docs/first-distillation.md",
    "README.md",
    "docs/which-loss.md",
    "docs/report.md",
    "docs/analysis.md",
    "docs/cli.md",
    "docs/preview.md",
    "docs/export.md",
    "docs/serving.md",
    "docs/evaluate-released.md",
    "docs/evaluation.md",
    "eval/README.md",
    "docs/protocols.md",
    "docs/memory-and-time.md",
    "docs/scaling.md",
    "docs/teacher-cache.md",
    "docs/your-data.md",
    "docs/language-only.md",
)
# Run on the real models by tests/test_readme.py, and too long to be run twice.
ELSEWHERE = ("taid-vlm quickstart", "taid-vlm launch quickstart/taid")
RECIPE = "quickstart/taid"  # where a page writes RECIPE
# What the recipe of a reader has who types this, and ours has not.
MORE = {"taid-vlm plan RECIPE --gpus 64": ["training.batch_size=64"]}


def runs_in_the_room(block: Block) -> bool:
    """Whether ``test_the_pages_run.py`` runs the commands of a block."""
    return block.page in PAGES and "needs" not in block.marks


class Room:
    """The folder, and its ways to do what a page says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def type(self, words: list[str]) -> None:
        """A command as a shell would give it to the program; a mistake raises."""
        if words[:3] == ["python", "-m", "taid_vlm_eval"]:
            assert evaluation(words[3:]) == 0, words
            return
        assert words[0] == "taid-vlm", words
        more = [word for start, keys in MORE.items() if " ".join(words).startswith(start) for word in keys]
        status = app([RECIPE if word == "RECIPE" else word for word in words[1:]] + more, standalone_mode=False)
        assert status in (None, 0), words

    def write(self, block: Block) -> None:
        """A block that a page says to put into a file."""
        file = self.folder / block.marks["file"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)


@contextmanager
def furnished(folder: Path, language_model: Path, patch: pytest.MonkeyPatch) -> Iterator[Room]:
    """The room, as long as the context lasts."""
    cache = folder / ".cache"
    folder.mkdir()
    lay_assets(cache / "assets")
    shelf = folder / ".recipes"
    patch.setenv("TAID_VLM_CACHE", str(cache))
    patch.setattr(loading, "recipes_folder", lambda: shelf)
    patch.setitem(paths.FOLDERS, "recipes", lambda: shelf)
    patch.setattr(sys, "argv", ["taid-vlm"])
    patch.chdir(folder)
    lay_recipes(shelf / "quickstart", language_model)
    (folder / "tasks" / "pets").mkdir(parents=True)
    for picture in ("picture.png", "tasks/pets/cat.png"):
        Image.new("RGB", (64, 64), (200, 30, 30)).save(folder / picture)
    yield Room(folder)


def lay_assets(folder: Path) -> None:
    """Data of two packages, unpacked."""
    for name, write in (("easy-vqa", write_easy_vqa), ("chatterbot-corpus", write_chatterbot)):
        write(folder / f"{name}-{ASSETS[name].version}")


def lay_recipes(folder: Path, language_model: Path) -> None:
    """Recipes of the quickstart in small, and the teacher beside them."""
    folder.mkdir(parents=True)
    model = {"source": str(language_model), "layers": 1}
    vision: dict[str, Any] = {
        "vision_encoder": {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64},
        "projector": {"name": "mlp"},
        "image_token": "<empty_output>",
    }
    pictures = {"kind": "easy_vqa", "path": "asset:easy-vqa"}
    talk = {"kind": "chatterbot", "path": "asset:chatterbot-corpus"}
    training = {"steps": 2, "batch_size": 8, "lr": 1e-3, "precision": "fp32", "trackers": []}
    seeing: dict[str, Any] = {
        "student": {**vision, "language_model": model},
        "teacher": {"checkpoint": "recipes:quickstart/teacher", "cache": {"enabled": True}},
        "data": {"train": [pictures], "max_length": 128, "cache_image_features": True},
        "training": training,
        "evaluation": {"tasks": ["easy_vqa"], "limit": 4},
    }
    teacher = {**seeing, "teacher": None, "loss": {"name": "sft"}, "evaluation": {}}
    made = train_and_evaluate(Recipe.model_validate(teacher), folder / "run")
    shutil.copytree(made, folder / "teacher")
    for name, loss in (
        ("sft", {"name": "sft"}),
        ("kl", {"name": "kl"}),
        ("taid", {"name": "taid", "alpha_total": 5.9}),
    ):
        taught = seeing | {"loss": loss} | ({"teacher": None} if name == "sft" else {})
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(taught))
    language = {
        "student": {"language_model": model},
        "teacher": {"language_model": {"source": str(language_model)}},
        "data": {"train": [talk], "validation": [{**talk, "split": "test"}], "max_length": 128},
        "loss": {"name": "taid", "alpha_total": 5.9},
        "training": training,
        "evaluation": {"tasks": ["chatterbot"], "limit": 4},
    }
    (folder / "language.yaml").write_text(yaml.safe_dump(language))


def blocks_to_do() -> list[Block]:
    """What the test does, page by page: commands, Python marked as run, and files."""
    return [block for page in PAGES if (ROOT / page).is_file() for block in blocks_of(page)]
