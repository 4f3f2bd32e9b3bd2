"""Teachers: one that was trained by the loop itself, and one that writes."""

from pathlib import Path

import pytest

from taid_vlm.training import train
from tests.tiny.language_model import SPECIALS, end_at_the_limit, save_chatty_llama
from tests.tiny.recipes import tiny_recipe


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    base = tiny_recipe(language_model, easy_vqa)
    student = base.student.model_copy(
        update={"language_model": base.student.language_model.model_copy(update={"layers": None})}
    )
    return train(tiny_recipe(language_model, easy_vqa, student=student.model_dump()), folder / "run")


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model that ends each answer at the limit."""
    folder = save_chatty_llama(tmp_path_factory.mktemp("chatty") / "llama")
    return end_at_the_limit(folder, SPECIALS.index("<|im_end|>"))
