"""Pictures that stand in messages, in the column of pictures, or under another name: none is left behind in silence."""

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.data import BadSampleError, Record, read_records
from taid_vlm.recipe.data_spec import DataSource
from tests.tiny.sources import png

ANSWER = {"role": "assistant", "content": "Red."}
WHAT = {"type": "text", "text": "What?"}
ENCODED = base64.b64encode(png(0)).decode()


def read(kind: str, path: Path, **options: Any) -> list[Record]:
    return read_records([DataSource(kind=kind, path=str(path), **options)], seed=0)


def lines(file: Path, *rows: Any) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return file


def asked(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}, ANSWER], **more}


def refused(record: Record) -> BadSampleError:
    with pytest.raises(BadSampleError) as told:
        record.check()
    return told.value


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "0.png"},
        {"type": "image", "path": "0.png"},
        {"type": "image", "url": "0.png"},
        {"type": "image", "url": "FILE"},
        {"type": "image", "base64": ENCODED},
        {"type": "image", "image": f"data:image/png;base64,{ENCODED}"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}", "detail": "low"}},
        {"type": "image_url", "image_url": f"DATA:image/png;BASE64,{ENCODED[:40]}\n{ENCODED[40:]}"},
        {"type": "image_url", "image_url": {"url": "0.png"}},
        {"type": "image", "image": None, "path": "0.png", "text": None},
    ],
)
def test_a_message_may_name_its_picture(tmp_path: Path, part: dict[str, Any]) -> None:
    (tmp_path / "0.png").write_bytes(png(0))
    if part.get("url") == "FILE":
        part = {**part, "url": (tmp_path / "0.png").as_uri()}
    (record,) = read("jsonl", lines(tmp_path / "x.jsonl", asked(part, WHAT)))
    record.check()
    assert record.messages == [{"role": "user", "content": [{"type": "image"}, WHAT]}, ANSWER]
    assert [picture.read_bytes() for picture in record.images] == [png(0)]
    assert len(record.text_digest()) == 64  # of words alone: no picture is left among them


def test_pictures_of_messages_keep_their_order_over_turns(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": [{"type": "image", "image": "b.png"}, WHAT, {"type": "image", "path": "a.png"}]},
        ANSWER,
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "c.png"}}]},
        ANSWER,
    ]
    (record,) = read("jsonl", lines(tmp_path / "x.jsonl", {"messages": turns, "images": []}))
    assert record.images == tuple(tmp_path / f"{name}.png" for name in "bac")
    record.check()


def test_a_table_may_hold_pictures_in_its_messages(tmp_path: Path) -> None:
    none = {"text": None, "image": None}
    parts = [
        {**none, "type": "image", "image": {"bytes": png(1), "path": None}},
        {**none, "type": "text", "text": "What?"},
        {**none, "type": "image", "image": {"bytes": png(0), "path": None}},
    ]
    answer = [{**none, "type": "text", "text": "Red."}]
    rows = [{"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    (record,) = read("parquet", tmp_path / "x.parquet")
    record.check()
    assert [picture.read_bytes() for picture in record.images] == [png(1), png(0)]
    assert record.messages[1] == ANSWER


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            asked({"type": "image", "image": "a.png"}, images=["b.png"]),
            r"1 pictures stand in the messages and 1 in the column",
        ),
        (asked({"type": "image", "image": "a.png"}, {"type": "image"}), "2 image parts .* 1 of them name no picture"),
        (asked({"type": "image"}), "1 image places and 0 pictures"),
    ],
)
def test_pictures_that_cannot_be_placed_are_told(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    (record,) = read("jsonl", lines(tmp_path / "x.jsonl", row))
    error = refused(record)
    assert error.reason == "image count"
    with pytest.raises(BadSampleError, match=told):
        record.check()


def test_a_url_in_a_message_is_refused_as_in_a_column(tmp_path: Path) -> None:
    (record,) = read("jsonl", lines(tmp_path / "x.jsonl", asked({"type": "image", "url": "https://a.b/c.png"})))
    assert refused(record).reason == "picture by URL"


def test_rows_of_no_table_need_no_column_of_pictures(tmp_path: Path) -> None:
    text = {"messages": [{"role": "user", "content": "Hi"}, ANSWER]}
    file = lines(tmp_path / "x.jsonl", text, asked({"type": "image"}, WHAT, photos=["a.png"]))
    first, second = read("jsonl", file, columns={"images": "photos"})
    first.check()
    assert (first.images, second.images) == ((), (tmp_path / "a.png",))
    with pytest.raises(
        UserError, match=r"no row .* has the column 'photo' for images; did you mean 'photos'\? They have: messages"
    ):
        read("jsonl", file, columns={"images": "photo"})
    pq.write_table(pa.Table.from_pylist([text]), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="no column 'photos' for images"):
        read("parquet", tmp_path / "x.parquet", columns={"images": "photos"})


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_pictures_under_the_other_usual_name_are_not_left_behind(tmp_path: Path, kind: str) -> None:
    row = {"messages": [{"role": "user", "content": "<image>What?"}, ANSWER], "image": "a.png"}
    file = tmp_path / f"x.{kind}"
    if kind == "jsonl":
        lines(file, row)
        assert refused(read(kind, file)[0]).reason == "missing column"
        with pytest.raises(BadSampleError, match=r"no column 'images' for images, but one 'image': set columns"):
            read(kind, file)[0].check()
    else:
        pq.write_table(pa.Table.from_pylist([row]), file)
        with pytest.raises(UserError, match=r"no column 'images' for images, but one 'image': set columns"):
            read(kind, file)
    (seen,) = read(kind, file, columns={"images": "image"}, image_mark="<image>")
    assert seen.images == (tmp_path / "a.png",)
    (blind,) = read(kind, file, columns={"images": None})
    assert (blind.images, blind.messages) == ((), row["messages"])


def test_a_mark_that_is_not_set_is_guessed(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "<image>What?"}, ANSWER], "images": ["a.png"]}
    (record,) = read("jsonl", lines(tmp_path / "x.jsonl", row))
    with pytest.raises(
        BadSampleError, match="0 image places and 1 pictures; where <image> stands for one, set image_mark"
    ):
        record.check()


@pytest.mark.parametrize("role", ["tool", "function", "observation"])
def test_calling_tools_is_refused_with_what_to_do(tmp_path: Path, role: str) -> None:
    user = {"role": "user", "content": "Hi"}
    calls = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    rows = [[user, {"role": role, "content": "x"}, ANSWER], [user, calls, ANSWER]]
    records = read("jsonl", lines(tmp_path / "x.jsonl", *({"messages": turns} for turns in rows)))
    for record in records:
        assert refused(record).reason == "wrong roles"
        with pytest.raises(
            BadSampleError, match=r"take such conversations out of the set, or set data\.on_bad_sample: skip"
        ):
            record.check()
    no_calls = {"messages": [user, {**ANSWER, "tool_calls": None}]}
    read("jsonl", lines(tmp_path / "x.jsonl", no_calls))[0].check()


@pytest.mark.parametrize("indices", [[0, 0], [1, 1], [1, 2], [1, None], [-1, 0]])
def test_places_that_cannot_be_meant_are_refused(tmp_path: Path, indices: list[int | None]) -> None:
    parts = [{"type": "image", "index": index, "text": None} for index in indices]
    (record,) = read("jsonl", lines(tmp_path / "x.jsonl", asked(*parts, images=["a.png", "b.png"])))
    assert refused(record).reason == "image count"


@pytest.mark.parametrize(("indices", "order"), [([1, 0], "ba"), ([0, 1], "ab"), ([None, None], "ab")])
def test_places_that_parts_name_are_kept(tmp_path: Path, indices: list[int | None], order: str) -> None:
    parts = [{"type": "image", "index": index, "text": None} for index in indices]
    (record,) = read("jsonl", lines(tmp_path / "x.jsonl", asked(*parts, images=["a.png", "b.png"])))
    record.check()
    assert [picture.name for picture in record.images] == [f"{name}.png" for name in order]  # type: ignore[attr-defined]
    assert record.messages[0]["content"] == [{"type": "image"}] * 2


def test_a_film_is_no_text(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "A dog."}]
    (tmp_path / "x.json").write_text(json.dumps([{"conversations": turns, "video": "a.mp4"}]))
    (record,) = read("json", tmp_path / "x.json")
    assert refused(record).reason == "wrong type"
    with pytest.raises(BadSampleError, match="the row has 'video'; only pictures are taken"):
        record.check()
