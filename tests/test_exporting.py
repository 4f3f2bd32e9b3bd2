"""The command: a run's folder becomes a checkpoint whose card tells of the run."""

import json
from pathlib import Path

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.exporting import Wish, about_run, export_run
from taid_vlm.training import train
from tests.tiny.recipes import tiny_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, language_model: Path, easy_vqa: Path) -> Path:
    settings = {"steps": 1, "batch_size": 2, "lr": 1e-3, "precision": "fp32"}
    folder = tmp_path_factory.mktemp("exporting") / "run"
    train(tiny_recipe(language_model, easy_vqa, training=settings), folder)
    (folder / "evaluation").mkdir()
    result = {
        "task": "easy_vqa",
        "metric": "accuracy",
        "value": 0.9,
        "low": 0.85,
        "high": 0.95,
        "n": 100,
        "limit": 100,
        "seed": 3,
    }
    (folder / "evaluation" / "easy_vqa.result.json").write_text(json.dumps(result))
    return folder


def test_a_run_is_exported_beside_its_student(run: Path) -> None:
    said = export_run(Wish(run))
    assert "FastVlmForConditionalGeneration" in said
    assert "greedy answers are equal" in said
    card = (run / "export" / "README.md").read_text()
    assert "| easy_vqa | accuracy | 0.9000 (0.8500 to 0.9500) | 100 |" in card
    assert "## Recipe" in card
    assert "taid-vlm eval FOLDER --tasks easy_vqa --limit 100 --seed 3\n" in card
    with pytest.raises(UserError, match="exists; choose another folder, or upload"):
        export_run(Wish(run))


def test_without_scores_the_card_says_how_to_get_some(tmp_path: Path) -> None:
    assert "taid-vlm eval" in about_run(tmp_path).text


def test_gguf_is_refused_before_anything_is_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no class for fast_vlm"):
        export_run(Wish(run, tmp_path / "out", gguf=True))
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_student(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"student\.json"):
        export_run(Wish(tmp_path))
