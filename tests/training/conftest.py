"""A teacher that was trained by the loop itself."""

from pathlib import Path

import pytest

from taid_vlm.training import train
from tests.tiny.recipes import tiny_recipe


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    base = tiny_recipe(language_model, easy_vqa)
    student = base.student.model_copy(
        update={"language_model": base.student.language_model.model_copy(update={"layers": None})}
    )
    return train(tiny_recipe(language_model, easy_vqa, student=student.model_dump()), folder / "run")
