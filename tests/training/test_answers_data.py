"""Answers of a teacher as a data set: loaded by ``datasets``, read by a recipe, with a card that says what it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.data import Record, read_records
from taid_vlm.recipe import Recipe
from taid_vlm.recipe.data_spec import DataSource
from taid_vlm.training import answers_data
from taid_vlm.training.answers_card import answers_card
from taid_vlm.training.answers_data import write_answers

GOLD = {"role": "assistant", "content": "gold"}


def recipe(chatty: Path, questions: Path, **changes: Any) -> Recipe:
    content: dict[str, Any] = {
        "student": {"language_model": {"source": str(chatty)}},
        "teacher": {"language_model": {"source": str(chatty)}},
        "data": {"train": [{"kind": "jsonl", "path": str(questions)}], "answer_tokens": 4, "max_length": 64},
        "loss": {"name": "sft"},
        "training": {"steps": 1, "batch_size": 1, "lr": 1e-3, "precision": "fp32"},
    }
    return Recipe.model_validate({**content, **changes})


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Three that can be answered, one that is too long, and one record that ends with a question."""
    asked = [*(f"number {i}" for i in range(3)), "long " * 200]
    rows = [{"messages": [{"role": "user", "content": text}, GOLD]} for text in asked]
    rows.append({"messages": [*rows[0]["messages"], {"role": "user", "content": "and?"}]})
    file = tmp_path / "secret home" / "questions.jsonl"
    file.parent.mkdir()
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def test_answers_are_loaded_and_learnt_from(
    chatty: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_data, "ROWS", 2)
    made, told, folder = recipe(chatty, questions), list[str](), tmp_path / "answers"
    assert write_answers(made, folder, told.append) == 3
    assert any("1 of 5 samples are left out: the question is longer" in line for line in told)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == ["README.md", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]

    data = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert data.column_names == ["messages"]
    asked = [row["messages"][0]["content"] for row in data]
    assert asked == [[{"type": "text", "text": f"number {i}"}] for i in range(3)]
    answers = [row["messages"][-1] for row in data]
    assert {answer["role"] for answer in answers} == {"assistant"}
    assert all(answer["content"][0]["text"] not in ("", "gold") for answer in answers)

    again = read_records([DataSource(kind="huggingface", path=str(folder))], 0)
    assert [record.messages[-1]["content"] for record in again] == [one["content"][0]["text"] for one in answers]
    for record in again:
        record.check()

    card = DatasetCard((folder / "README.md").read_text())
    assert card.data.to_dict()["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
    ]
    assert card.data.task_categories == ["text-generation"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.license is None
    assert "3 of 5 records" in card.text
    assert "No licence is claimed for this data set: that of " in card.text
    assert f"| teacher, who wrote the last answers | {chatty.name} (local) | unknown |" in card.text
    assert "| questions | questions.jsonl (local) | unknown | split train |" in card.text
    assert "secret home" not in (folder / "README.md").read_text()
    with pytest.raises(UserError, match="exists; choose another folder"):
        write_answers(made, folder, told.append)


def test_pictures_are_inside(tmp_path: Path, chatty: Path, questions: Path) -> None:
    files = [tmp_path / f"{name}.png" for name in ("red", "blue", "green")]
    for file in files:
        Image.new("RGB", (5, 4), file.stem).save(file)
    image = {"type": "image"}
    parts = [image, {"type": "text", "text": "or"}, image]
    records = [
        Record("1", [{"role": "user", "content": parts}, GOLD], tuple(files[:2])),
        Record("2", [{"role": "user", "content": "none"}, GOLD]),
        Record("3", [{"role": "user", "content": [image]}, GOLD], tuple(files[2:])),
    ]
    folder = tmp_path / "set"
    folder.mkdir()
    answers_data._write(records, folder)
    (folder / "README.md").write_text(answers_card(recipe(chatty, questions), "a\n---\nb", records, 3, "fp32"))
    for file in files:
        file.rename(file.with_suffix(".moved"))
    data = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert [[picture.getpixel((0, 0)) for picture in row["images"]] for row in data] == [
        [(255, 0, 0), (0, 0, 255)],
        [],
        [(0, 128, 0)],
    ]
    again = read_records([DataSource(kind="huggingface", path=str(folder))], 0)
    assert [len(record.images) for record in again] == [2, 0, 1]
    assert again[0].messages == [{"role": "user", "content": parts}, GOLD] or again[0].messages[0]["content"] == parts
    assert [record.images[0].read_bytes() for record in again if record.images] == [
        files[0].with_suffix(".moved").read_bytes(),
        files[2].with_suffix(".moved").read_bytes(),
    ]
    card = DatasetCard((folder / "README.md").read_text())
    assert card.data.task_categories == ["image-text-to-text"]
    assert "| images |" in card.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"teacher": None}, "has no teacher"),
        ({"teacher": {"language_model": {"source": "a/b"}, "placement": "sharded"}}, "a teacher of placement sharded"),
    ],
)
def test_somebody_has_to_write(
    change: dict[str, Any], said: str, chatty: Path, questions: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        write_answers(recipe(chatty, questions, **change), tmp_path / "answers", print)


def test_without_an_answer_nothing_is_written(chatty: Path, questions: Path, tmp_path: Path) -> None:
    questions.write_text(questions.read_text().splitlines()[3] + "\n")
    with pytest.raises(UserError, match="nothing was written"):
        write_answers(recipe(chatty, questions), tmp_path / "answers", print)
    assert not (tmp_path / "answers").exists()
