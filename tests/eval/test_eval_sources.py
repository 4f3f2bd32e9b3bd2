"""Readers of data: what they return, and one message for each way a file can be wrong."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm_eval.data import read_chatterbot, read_easy_vqa, read_jsonl
from taid_vlm_eval.data.sources import is_held_out
from tests.eval.fakes import write_rows
from tests.tiny.data import write_chatterbot, write_easy_vqa


def test_easy_vqa(easy_vqa: Path) -> None:
    items = read_easy_vqa(easy_vqa, "test")
    assert [item.id for item in items] == [f"test-{i}" for i in range(8)]
    assert (items[1].question, items[1].answer) == ("what color?", "blue")
    assert items[1].images == [easy_vqa / "easy_vqa" / "data" / "test" / "images" / "1.png"]
    assert len(read_easy_vqa(easy_vqa, "train")) == 24


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[["what?", "red"]]', r"entry 0: found \['what\?', 'red'\], expected \[question, answer, image id\]"),
        ('[["a", "red", 0], [1, "red", 0]]', "entry 1: found"),
        ('[["what?", "green", 0]]', "entry 0: answer 'green' is not in"),
        ('[["what?", ["red"], 0]]', "entry 0: found"),
        ("[", "is not valid JSON"),
        ("3", "found int, expected a list"),
    ],
)
def test_a_broken_easy_vqa_is_told(tmp_path: Path, content: str, message: str) -> None:
    root = write_easy_vqa(tmp_path, 1, 1)
    (root / "easy_vqa" / "data" / "test" / "questions.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_easy_vqa(root, "test")


def test_a_wrong_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file at .*questions\.json; is this the right folder"):
        read_easy_vqa(tmp_path, "test")
    with pytest.raises(UserError, match=r"unknown split 'tset'.*did you mean 'test'"):
        read_easy_vqa(tmp_path, "tset")
    with pytest.raises(UserError, match=r"no \*\.yml files in"):
        read_chatterbot(tmp_path, "test")
    with pytest.raises(UserError, match=r"expected a \.jsonl file, or a folder that holds test\.jsonl"):
        list(read_jsonl(tmp_path, "test"))
    root = write_easy_vqa(tmp_path, 1, 1)
    (root / "easy_vqa" / "data" / "answers.txt").unlink()
    with pytest.raises(UserError, match=r"no file at .*answers\.txt"):
        read_easy_vqa(root, "test")


def test_chatterbot_splits_by_question(tmp_path: Path) -> None:
    root = write_chatterbot(tmp_path)
    train, test = read_chatterbot(root, "train"), read_chatterbot(root, "test")
    assert len(train) + len(test) == 40
    assert test
    assert all(is_held_out(item.question) for item in test)
    assert not any(is_held_out(item.question) for item in train)
    number = test[0].id.removeprefix("small-")
    assert (test[0].question, test[0].answer) == (f"Question {number}?", f"Answer {number}.")


def test_chatterbot_keeps_text_as_text_and_drops_what_is_empty(tmp_path: Path) -> None:
    root = write_chatterbot(tmp_path)
    lines = ["conversations:", "- - yes", "  - 42", "  - ignored", "- - alone", "- text", "- - ' a '", "  - 1.50"]
    (root / "chatterbot_corpus" / "data" / "english" / "small.yml").write_text("\n".join(lines))
    items = read_chatterbot(root, "train") + read_chatterbot(root, "test")
    assert sorted((i.question, i.answer, i.id) for i in items) == [("a", "1.50", "small-3"), ("yes", "42", "small-0")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"conversations: [", "is not valid YAML"),
        (b"categories: []", "expected a key 'conversations'"),
        (b"- a", "expected a key 'conversations'"),
        (b"conversations:\n- - caf\xe9\n  - b\n", r"is not UTF-8 text \(byte 22\)"),
    ],
)
def test_a_broken_chatterbot_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    root = write_chatterbot(tmp_path)
    (root / "chatterbot_corpus" / "data" / "english" / "small.yml").write_bytes(content)
    with pytest.raises(UserError, match=rf"small\.yml.*{message}"):
        read_chatterbot(root, "test")


def test_jsonl(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "a \u2028 b", "answer": ["x", "y"]},
        {"id": 7, "question": "b", "answer": "z", "images": ["pictures/1.png", "2.png"], "facts": {"category": "x"}},
    ]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in [rows[0]]) + "\n \n" + json.dumps(rows[1])
    (file := tmp_path / "test.jsonl").write_text(text, encoding="utf-8")
    first, second = read_jsonl(file, "anything")
    assert (first.id, first.question, first.answer, first.images) == ("0", "a \u2028 b", ["x", "y"], [])
    assert (second.id, second.images) == ("7", [tmp_path / "pictures" / "1.png", tmp_path / "2.png"])
    assert (first.facts, second.facts) == ({}, {"category": "x"})
    assert list(read_jsonl(tmp_path, "test")) == [first, second]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1], "found list, expected an object"),
        ({"answer": "x"}, "question is None, expected text"),
        ({"question": "q"}, "answer is None, expected text or a list of texts"),
        ({"question": "q", "answer": []}, r"answer is \[\]"),
        ({"question": "q", "answer": [1]}, r"answer is \[1\]"),
        ({"question": "q", "answer": "x", "images": "a.png"}, "images is 'a.png', expected a list"),
        ({"question": "q", "answer": "x", "facts": "chart"}, "facts is 'chart', expected an object"),
        ({"question": "q", "answer": "A", "facts": {"options": ["a"]}}, r"facts\.options is \['a'\], expected a text"),
        ({"question": "q", "answer": "A", "facts": {"options": {"A": 1}}}, r"facts\.options is \{'A': 1\}"),
        ({"question": "\ud800", "answer": "x"}, "is not valid JSON"),  # half a surrogate pair
    ],
)
def test_a_broken_line_is_an_item_that_tells_its_line(tmp_path: Path, row: Any, message: str) -> None:
    file = write_rows(tmp_path, [{"question": "fine", "answer": "x"}, row, {"question": "too", "answer": "x"}])
    first, broken, last = read_jsonl(file, "test")
    assert (first.broken, last.broken, last.id) == ("", "", "2")
    assert re.search(rf"small\.jsonl, line 2.*{message}", broken.broken)


def test_an_unknown_key_is_a_mistake_in_all_lines(tmp_path: Path) -> None:
    file = write_rows(tmp_path, [{"question": "fine", "answer": "x"}, {"question": "q", "answer": "x", "image": ["a"]}])
    with pytest.raises(UserError, match=r"small\.jsonl, line 2: unknown key 'image': did you mean 'images'"):
        list(read_jsonl(file, "test"))


def test_lines_that_are_no_json_or_no_text(tmp_path: Path) -> None:
    cut, latin, whole = b'{"question": ', b'{"question": "caf\xe9", "answer": "a"}', b'{"question": "q", "answer": "a"}'
    (tmp_path / "x.jsonl").write_bytes(b"\n".join([cut, b"[" * 100_000, latin, whole, cut]))
    items = list(read_jsonl(tmp_path / "x.jsonl", "test"))
    assert [one.id for one in items] == ["line 1", "line 2", "line 3", "3", "line 5"]
    assert [bool(one.broken) for one in items] == [True, True, True, False, True]
    assert "line 1 is not valid JSON" in items[0].broken
    assert "line 3 is not UTF-8 text (byte 17 of it)" in items[2].broken
    (tmp_path / "x.jsonl").write_bytes(b"\n".join([cut, latin]))
    with pytest.raises(UserError, match=r"line 1 is not valid JSON.*; no line of .*x\.jsonl can be read"):
        list(read_jsonl(tmp_path / "x.jsonl", "test"))
