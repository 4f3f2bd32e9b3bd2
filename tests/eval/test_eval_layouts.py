"""Rules of single benchmarks: order and choice of pictures, joined tables, odd labels, and rows that lack things."""

from pathlib import Path
from typing import Any

import pytest

from taid_vlm_eval.data.layouts import LAYOUTS
from taid_vlm_eval.data.rows import Row
from taid_vlm_eval.data.store import PictureStore
from tests.tiny.benchmarks import picture, png


def laid_out(name: str, rows: list[Row], folder: Path, **tables: list[Row]) -> list[Row]:
    store = PictureStore(folder / "store", beside=folder)
    return list(LAYOUTS.get(name)(rows, lambda config, split=None: tables[config], store))


def mmmu_row(question: str, options: str = "['a']", kind: str = "multiple-choice", **images: Any) -> Row:
    return {"id": "test_Art_1", "question": question, "options": options, "question_type": kind, **images}


def test_mmmu_takes_the_pictures_that_are_named_by_number(tmp_path: Path) -> None:
    images = {f"image_{k}": k for k in range(1, 12)}
    rows = [
        mmmu_row("see <image 10> and <image 9>", "['<image 2>', '<image 10>']", **images),
        mmmu_row("no marks", image_1=1, image_2=None, image_3=3),
        mmmu_row("<image 1> <image 2>", image_1=1, image_2=None),
    ]
    first, second, third = laid_out("mmmu", rows, tmp_path)
    assert first["images"] == [2, 9, 10]
    assert second["images"] == [1, 3]
    assert third["images"][0] == 1
    assert isinstance(third["images"][1], ValueError)  # told when the item is made


def test_mmmu_asks_open_questions_without_options(tmp_path: Path) -> None:
    choice, free = laid_out("mmmu", [mmmu_row("q"), mmmu_row("q", "['7']", "open")], tmp_path)
    assert (choice["options"], free["options"]) == ("['a']", None)
    assert choice["instruction"].endswith("directly.")
    assert free["instruction"].endswith("phrase.")


def test_gqa_joins_pictures_and_tells_those_that_are_missing(tmp_path: Path) -> None:
    rows: list[Row] = [{"imageId": "i1"}, {"imageId": "i2"}, {"imageId": "i1"}]
    found = laid_out("gqa", rows, tmp_path, testdev_balanced_images=[{"id": "i1", "image": picture(1)}])
    assert found[0]["image"].read_bytes() == png(1)
    assert found[0]["image"] == found[2]["image"]
    assert isinstance(found[1]["image"], ValueError)


@pytest.mark.parametrize(("key", "place"), [("1", 0), ("3", 2), ("9", None)])
def test_arc_takes_labels_that_are_numbers(tmp_path: Path, key: str, place: int | None) -> None:
    row = {"answerKey": key, "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}}
    (found,) = laid_out("arc", [row], tmp_path)
    assert (found["choices"], found["answerKey"]) == (["a", "b", "c"], place)


def test_rotations_form_groups(tmp_path: Path) -> None:
    rows: list[Row] = [{"index": index} for index in (7, "1000007", "3000007", "1000008", "odd")]
    assert [row["group"] for row in laid_out("circular", rows, tmp_path)] == ["7", "7", "7", "8", "odd"]


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_empty_cells_do_not_stop_a_layout(tmp_path: Path, name: str) -> None:
    names = "id index question prompt options question_type choices answerKey imageId image".split()  # noqa: SIM905
    names += ["activity_label", "ctx_a", "ctx_b", "endings", "subject", "messages"]
    tables: dict[str, list[Row]] = {"testdev_balanced_images": [], "all": []}
    left_out = name in ("hallusion_tsv", "ultrachat")  # these take only rows with a picture, or whole conversations
    assert len(laid_out(name, [dict.fromkeys(names)], tmp_path, **tables)) == (0 if left_out else 1)


def test_rows_are_not_changed(tmp_path: Path) -> None:
    row = {"question": "Is it? Please answer yes or no.", "index": "1000001"}
    before = dict(row)
    for name in ("without_yes_no", "capitalised", "circular"):
        laid_out(name, [row], tmp_path)
    assert row == before
