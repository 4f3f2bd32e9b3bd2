"""Recipes say what a set calls its columns; what is missing is named with what is there."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.data import BadSampleError, Record, open_image, read_records
from taid_vlm.data.pictures import PictureBytes
from taid_vlm.data.sources.picture_cells import pictures_of
from taid_vlm.recipe.data_spec import DataSource
from tests.tiny.sources import png

TURNS = [{"from": "human", "value": "<image>\nWhat? <image>"}, {"from": "gpt", "value": "Two."}]


def read(kind: str, path: Path, **options: Any) -> list[Record]:
    return read_records([DataSource(kind=kind, path=str(path), **options)], seed=0)


def lines(file: Path, *rows: Any) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return file


def refused(record: Record) -> BadSampleError:
    with pytest.raises(BadSampleError) as told:
        record.check()
    return told.value


def test_names_of_columns_and_the_mark_of_pictures(tmp_path: Path) -> None:
    file = lines(tmp_path / "x.jsonl", {"talk": TURNS, "photos": ["a.png", "b.png"], "key": 7})
    columns = {"messages": "talk", "images": "photos", "id": "key"}
    (record,) = read("jsonl", file, columns=columns, image_mark="<image>", image_folder=str(tmp_path))
    parts = [{"type": "image"}, {"type": "text", "text": "What? "}, {"type": "image"}]
    assert record.messages == [{"role": "user", "content": parts}, {"role": "assistant", "content": "Two."}]
    assert record.images == (tmp_path / "a.png", tmp_path / "b.png")
    assert record.id.endswith("x.jsonl:1 (id 7)")
    # Without the mark the words stay words, so the pictures have no place.
    (unmarked,) = read("jsonl", file, columns=columns)
    assert refused(unmarked).reason == "image count"


@pytest.mark.parametrize(
    ("kind", "suffix"), [("jsonl", "jsonl"), ("json", "json"), ("csv", "csv"), ("parquet", "parquet")]
)
def test_questions_and_answers_in_any_container(tmp_path: Path, kind: str, suffix: str) -> None:
    row = {"picture": "0.png", "q": "What?", "a": "Red."}
    file = tmp_path / f"x.{suffix}"
    if kind == "csv":
        with open(file, "w", newline="") as out:
            csv.writer(out).writerows([list(row), list(row.values())])
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), file)
    else:
        file.write_text(json.dumps(row if kind == "jsonl" else [row]))
    (record,) = read(kind, file, columns={"images": "picture", "question": "q", "answer": "a"})
    parts = [{"type": "image"}, {"type": "text", "text": "What?"}]
    assert record.messages == [{"role": "user", "content": parts}, {"role": "assistant", "content": "Red."}]
    assert record.images == (tmp_path / "0.png",)
    record.check()


def test_a_missing_column_of_a_table_stops_at_once(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"mesages": [], "pictures": None}]), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"no column 'messages'.*did you mean 'mesages'.*It has: mesages, pictures"):
        read("parquet", tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"no column 'image' for images"):
        read("parquet", tmp_path / "x.parquet", columns={"messages": "mesages", "images": "image"})
    (tmp_path / "x.csv").write_text("image,question\n")
    with pytest.raises(UserError, match=r"x\.csv: no column 'answer' for answer\. It has: image, question"):
        read("csv", tmp_path / "x.csv")


def test_a_missing_column_of_a_line_is_counted(tmp_path: Path) -> None:
    file = lines(tmp_path / "x.jsonl", {"text": "a"}, {"texts": "b"})
    good, bad = read("jsonl", file, columns={"text": "text"})
    assert good.text == "a"
    assert refused(bad).reason == "missing column"
    assert "did you mean 'text'" not in str(refused(bad))
    assert "did you mean 'texts'" in str(refused(bad))


def test_contents_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="a source holds either"):
        DataSource(kind="jsonl", path="x", columns={"messages": "a", "text": "b"})


def test_an_image_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = lines(tmp_path / "x.jsonl", {"messages": []})
    with pytest.raises(UserError, match="image_folder not found"):
        read("jsonl", file, image_folder=str(tmp_path / "gone"))


@pytest.mark.parametrize("marks", [0, 1, 3])
def test_marks_and_pictures_must_agree(tmp_path: Path, marks: int) -> None:
    turns = [{"from": "human", "value": "<image>" * marks + "What?"}, {"from": "gpt", "value": "Two."}]
    (tmp_path / "x.json").write_text(json.dumps([{"conversations": turns, "image": ["a.png", "b.png"]}]))
    error = refused(read("json", tmp_path / "x.json")[0])
    assert error.reason == "image count"
    assert f"{marks} image places and 2 pictures" in str(error)


def test_a_file_that_is_no_json_list_is_refused_as_a_whole(tmp_path: Path) -> None:
    for text, told in (('{"a": 1}\n{"a": 2}', "kind: jsonl"), ('{"a": 1}', "expected a JSON list")):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UserError, match=told):
            read("json", tmp_path / "x.json")


def test_lines_of_a_csv_with_other_numbers_of_fields_are_counted(tmp_path: Path) -> None:
    text = b"image,question,answer\n,a,b\n,too few\n,too,many,fields\n,n\xff,b\n,c,d\n"
    (tmp_path / "x.csv").write_bytes(text)
    records = read("csv", tmp_path / "x.csv")
    assert [r.broken.reason if r.broken else None for r in records] == [
        None,
        "unreadable row",
        "unreadable row",
        "broken text",
        None,
    ]


def test_a_table_may_hold_a_conversation_as_columns(tmp_path: Path) -> None:
    turns = {"role": ["user", "assistant"], "content": ["Hi", "Hello"]}
    pq.write_table(pa.Table.from_pylist([{"messages": turns}]), tmp_path / "x.parquet")
    assert read("parquet", tmp_path / "x.parquet")[0].messages == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]


def test_a_picture_that_is_open_already_is_one(tmp_path: Path) -> None:
    image = Image.new("RGB", (5, 4), (9, 8, 7))
    (picture,) = pictures_of(image, tmp_path, "here")
    assert isinstance(picture, PictureBytes)
    assert open_image(picture).tobytes() == image.tobytes()
    assert pictures_of([png(0), {"bytes": png(0)}], tmp_path, "here")[0] == pictures_of(png(0), tmp_path, "there")[0]


@pytest.mark.parametrize("url", ["http://a.b/c.png", "https://a.b/c.png", "s3://a/b.png", "file://host/a.png"])
def test_addresses_are_refused_with_the_reason(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadSampleError, match=r"is a URL.*Download") as told:
        pictures_of(["a.png", url], tmp_path, "here")
    assert told.value.reason == "picture by URL"


@pytest.mark.parametrize("name", ["odd: name.png", "C:/x.png", "a//b.png", "../up.png"])
def test_odd_paths_are_paths(tmp_path: Path, name: str) -> None:
    assert pictures_of(name, tmp_path, "here") == (tmp_path / name,)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["conversations", "images"], "; did you mean 'conversations'"),
        (["question", "answer", "image"], r"; rows of question and answer take columns: \{question: question"),
        (["images", "mesages"], "; did you mean 'mesages'"),
        (["images", "id"], r"\. It has: id, images"),  # not images, for messages are no pictures
    ],
)
def test_what_may_be_meant_by_messages_is_said(tmp_path: Path, columns: list[str], told: str) -> None:
    pq.write_table(pa.Table.from_pylist([dict.fromkeys(columns, "x")]), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=f"no column 'messages' for messages{told}"):
        read("parquet", tmp_path / "x.parquet")


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_list_that_is_read_by_lines_is_known(tmp_path: Path, indent: int | None) -> None:
    (tmp_path / "x.json").write_text(json.dumps([{"messages": []}], indent=indent))
    with pytest.raises(BadSampleError, match="a file that is one JSON list is kind: json"):
        read("jsonl", tmp_path / "x.json")[0].check()
