"""A run over a mix of sources counts what is broken, and documents are learnt by student and teacher."""

import json
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.recipe import Recipe
from taid_vlm.training import train
from tests.tiny.recipes import distil, logged_steps, tiny_recipe
from tests.tiny.sources import CONVERSATIONS, write_jsonl, write_saved, write_shards


def mixed(folder: Path) -> dict[str, Any]:
    """Three formats, one of them with a line that is no conversation and one that shows an address."""
    lines = write_jsonl(folder / "lines")
    address = {"messages": CONVERSATIONS[1][0], "images": ["https://example.org/a.png"]}
    lines.write_text(lines.read_text() + "{broken\n" + json.dumps(address) + "\n")
    sources = [
        {"kind": "jsonl", "path": str(lines), "weight": 2},
        {"kind": "huggingface", "path": str(write_saved(folder / "saved"))},
        {"kind": "webdataset", "path": str(write_shards(folder / "shards"))},
    ]
    return {"train": sources, "max_length": 256}


def test_a_mix_is_learnt_and_what_is_broken_is_counted(
    tmp_path: Path, language_model: Path, easy_vqa: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {**mixed(tmp_path), "on_bad_sample": "skip"}
    train(distil(language_model, easy_vqa, teacher, data=data), tmp_path / "run")
    told = capsys.readouterr().out
    # The source is passed over twice, and so are its broken lines.
    assert "       2  unreadable row\n" in told
    assert "       2  picture by URL\n" in told
    whole = logged_steps(tmp_path / "run")
    assert all(row["loss"] > 0 for row in whole)
    train(distil(language_model, easy_vqa, teacher, data={**data, "workers": 2}), tmp_path / "workers")
    assert [row["loss"] for row in logged_steps(tmp_path / "workers")] == [row["loss"] for row in whole]


def test_a_run_that_refuses_names_the_line(tmp_path: Path, language_model: Path, easy_vqa: Path) -> None:
    with pytest.raises(UserError, match=r"train\.jsonl:5: not JSON.*on_bad_sample: skip"):
        train(tiny_recipe(language_model, easy_vqa, data=mixed(tmp_path)), tmp_path / "run")


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_documents_are_learnt(tmp_path: Path, language_model: Path, batching: str) -> None:
    (tmp_path / "books").mkdir()
    for index in range(3):
        (tmp_path / "books" / f"{index}.txt").write_text(f"Chapter {index}. " + "the cat sat on the mat. " * 20)
    recipe = {
        "student": {"language_model": {"source": str(language_model), "layers": 2}},
        "teacher": {"language_model": {"source": str(language_model)}, "cache": {"enabled": True}},
        "data": {
            "train": [{"kind": "text", "path": str(tmp_path / "books")}],
            "max_length": 64,
            "batching": batching,
        },
        "loss": {"name": "kl", "ce_weight": 1.0},
        "training": {"steps": 30, "batch_size": 4, "lr": 2e-2, "precision": "fp32", "trackers": []},
    }
    recipe["student"]["train"] = {"language_model": {"mode": "full", "lr": 2e-2}}
    train(Recipe.model_validate(recipe), tmp_path / "run")
    log = logged_steps(tmp_path / "run")
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
