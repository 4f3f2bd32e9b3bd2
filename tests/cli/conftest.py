"""A tiny student, and a recipe that teaches one like it."""

from pathlib import Path

import pytest

from taid_vlm.recipe import dump_recipe
from taid_vlm.training import train
from tests.tiny.recipes import distil, tiny_recipe


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    """Folder of a student that can be a teacher, too."""
    recipe = tiny_recipe(language_model, easy_vqa).model_dump()
    recipe["training"] |= {"steps": 1, "trackers": []}
    recipe["student"]["language_model"]["layers"] = None
    return train(tiny_recipe(language_model, easy_vqa, **recipe), tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def recipe(tmp_path: Path, language_model: Path, easy_vqa: Path, student: Path) -> Path:
    """``r.yaml`` in the test's folder."""
    (tmp_path / "r.yaml").write_text(dump_recipe(distil(language_model, easy_vqa, student)))
    return tmp_path / "r.yaml"
