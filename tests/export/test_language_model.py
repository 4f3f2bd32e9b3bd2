"""The exported checkpoint is stock, and a wrong one does not get out."""

from pathlib import Path

import pytest
import torch

from taid_vlm.common.errors import UserError
from taid_vlm.export import export_language_model
from taid_vlm.models import load_student
from taid_vlm.training import train
from tests.tiny.recipes import tiny_recipe


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    recipe = tiny_recipe(
        language_model, easy_vqa, training={"steps": 1, "batch_size": 2, "lr": 1e-3, "precision": "fp32"}
    )
    return train(recipe, tmp_path_factory.mktemp("export") / "run")


def test_a_fresh_process_gives_the_same_logits(tmp_path: Path, student: Path) -> None:
    assert export_language_model(load_student(student), tmp_path / "out") < 1e-5
    assert (tmp_path / "out" / "config.json").is_file()


def test_other_weights_on_disk_are_caught_and_nothing_is_left(
    tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_student(student)
    save = loaded.student.language_model.save_pretrained

    def saves_other_weights(folder: Path) -> None:
        with torch.no_grad():
            loaded.student.language_model.model.norm.weight.mul_(1.5)
        save(folder)

    monkeypatch.setattr(loaded.student.language_model, "save_pretrained", saves_other_weights)
    with pytest.raises(UserError, match="other logits"):
        export_language_model(loaded, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))
