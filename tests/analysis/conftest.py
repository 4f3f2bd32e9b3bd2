"""A tiny teacher that was trained by the loop."""

from pathlib import Path

import pytest

from taid_vlm.training import train
from tests.tiny.recipes import tiny_recipe


@pytest.fixture(scope="session")
def saved_teacher(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    """Folder of a saved student with all layers of the tiny language model."""
    recipe = tiny_recipe(language_model, easy_vqa)
    whole = recipe.student.language_model.model_copy(update={"layers": None})
    student = recipe.student.model_copy(update={"language_model": whole})
    folder = tmp_path_factory.mktemp("analysis-teacher")
    return train(tiny_recipe(language_model, easy_vqa, student=student.model_dump()), folder / "run")
