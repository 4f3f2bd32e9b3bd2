"""Every kind of source: what it yields, and how it names what is wrong."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.data import BadSampleError, Record, read_records
from taid_vlm.recipe.data_spec import DataSource
from tests.tiny.data import write_chatterbot


def read(kind: str, path: Path, **options: Any) -> list[Record]:
    return read_records([DataSource(kind=kind, path=str(path), **options)], seed=0)


def write_lines(file: Path, *rows: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return file


def row(answer: Any = "yes", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}], **more}


def test_easy_vqa_gives_question_picture_and_answer(easy_vqa: Path) -> None:
    records = read("easy_vqa", easy_vqa, split="test")
    assert len(records) == 8
    assert records[1].messages[0]["content"] == [{"type": "image"}, {"type": "text", "text": "what color?"}]
    assert records[1].messages[1] == {"role": "assistant", "content": "blue"}
    assert records[1].images[0].name == "1.png"
    assert records[1].images[0].is_file()


def test_chatterbot_s_splits_are_disjoint_and_complete(tmp_path: Path) -> None:
    root = write_chatterbot(tmp_path)
    train, test = ([r.messages[0]["content"] for r in read("chatterbot", root, split=s)] for s in ("train", "test"))
    assert len(set(train) | set(test)) == len(train) + len(test) == 40
    assert 1 <= len(test) <= 12
    with pytest.raises(UserError, match="no split 'validation'"):
        read("chatterbot", root, split="validation")


def test_chatterbot_keeps_yes_and_numbers_as_text(tmp_path: Path) -> None:
    folder = tmp_path / "chatterbot_corpus" / "data" / "english"
    folder.mkdir(parents=True)
    turns = "".join(f"- - Is it {i}?\n  - yes\n- - How many {i}?\n  - 42\n" for i in range(10))
    (folder / "odd.yml").write_text("conversations:\n" + turns)
    assert {r.messages[1]["content"] for r in read("chatterbot", tmp_path)} == {"yes", "42"}


def test_jsonl_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    seen = row(images=["pictures/a.png"])
    seen["messages"][0]["content"] = [{"type": "image"}]
    file = write_lines(tmp_path / "sub" / "train.jsonl", seen, "", row())
    for path in (file, tmp_path / "sub"):
        first, second = read("jsonl", path)
        assert first.images == (tmp_path / "sub" / "pictures" / "a.png",)
        assert (second.images, second.messages[1]["content"]) == ((), "yes")
    assert second.id.endswith("train.jsonl:3")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "unreadable row"),
        ("[1, 2]", "unreadable row"),
        ('"text"', "unreadable row"),
        ("[" * 100_000, "unreadable row"),
        ("{}", "missing column"),
        ('{"messages": [{"role": "user"}]}', "wrong roles"),
        ('{"messages": null}', "wrong type"),
        (row(images=[3]), "wrong type"),
        (row(images={"a": 1}), "wrong type"),
        (row(images=["http://example.org/a.png"]), "picture by URL"),
        (row(images="data:image/png;base64,A"), "broken picture"),
        ({"messages": [{"role": "user", "content": 3}]}, "wrong type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "wrong roles"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "wrong roles"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]}, "wrong roles"),
        ({"messages": [{"role": "assistant", "content": [{"type": "image"}]}]}, "wrong roles"),
        ({"messages": [{"role": "user", "content": [{"text": "no type"}]}]}, "wrong type"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "wrong type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]}, "wrong type"),
        (row("a\0b"), "broken text"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "broken text"),
    ],
)
def test_a_malformed_line_keeps_its_place_and_says_what_is_wrong(tmp_path: Path, line: Any, reason: str) -> None:
    file = write_lines(tmp_path / "x.jsonl", row(), line, row())
    first, broken, last = read("jsonl", file)
    first.check()
    last.check()
    with pytest.raises(BadSampleError, match=r"x\.jsonl:2\b.*") as told:
        broken.check()
    assert told.value.reason == reason
    assert len(str(told.value)) < 600
    assert pickle.loads(pickle.dumps(told.value)).reason == reason


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(json.dumps(row()).encode() + b"\n" + b'{"messages": "\xff"}\n')
    (_, broken) = read("jsonl", tmp_path / "x.jsonl")
    with pytest.raises(BadSampleError, match=r"x\.jsonl:2: .*utf-8"):
        broken.check()


def test_no_pictures_may_be_written_as_null(tmp_path: Path) -> None:
    assert read("jsonl", write_lines(tmp_path / "x.jsonl", row(images=None)))[0].images == ()


@pytest.mark.parametrize("answer", ["", " ", None])
def test_a_sample_without_an_answer_is_read_and_judged_bad(tmp_path: Path, answer: Any) -> None:
    found = read("jsonl", write_lines(tmp_path / "x.jsonl", row(), row(answer)))
    found[0].check()
    with pytest.raises(BadSampleError, match=r"x\.jsonl:2 has no answer"):
        found[1].check()


def test_two_files_never_share_a_name_for_a_sample(tmp_path: Path) -> None:
    files = [write_lines(tmp_path / name / "train.jsonl", row(id=1), row()) for name in "ab"]
    sources = [DataSource(kind="jsonl", path=str(file)) for file in files]
    assert len({record.id for record in read_records(sources, seed=0)}) == 4


def test_a_limit_takes_a_part_that_depends_on_the_seed_alone(easy_vqa: Path) -> None:
    source = DataSource(kind="easy_vqa", path=str(easy_vqa), limit=6)
    ids = [[r.id for r in read_records([source], seed)] for seed in (0, 0, 1)]
    assert len(ids[0]) == 6
    assert ids[0] == ids[1] != ids[2]
    whole = [r.id for r in read("easy_vqa", easy_vqa)]
    assert ids[0] == [name for name in whole if name in ids[0]]


def test_sources_are_joined_and_what_is_missing_is_named(tmp_path: Path, easy_vqa: Path) -> None:
    both = [DataSource(kind="easy_vqa", path=str(easy_vqa), split=split) for split in ("train", "test")]
    assert len(read_records(both, 0)) == 32
    for kind, message in (("easy_vqa", "not found"), ("chatterbot", "not found"), ("jsonl", "not found")):
        with pytest.raises(UserError, match=message):
            read(kind, tmp_path / "nowhere")
    with pytest.raises(UserError, match="did you mean 'jsonl'"):
        read("jsnl", tmp_path)
    with pytest.raises(UserError, match="no records"):
        read("jsonl", write_lines(tmp_path / "empty.jsonl"))


def test_a_weight_is_passes_over_the_source(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "x.jsonl", *[row(str(i)) for i in range(10)])

    def answers(weight: float, seed: int = 0, **more: Any) -> list[str]:
        source = DataSource(kind="jsonl", path=str(file), weight=weight, **more)
        return [record.messages[1]["content"] for record in read_records([source], seed)]

    whole = [str(i) for i in range(10)]
    assert answers(1) == whole
    assert answers(2) == whole * 2
    more = answers(2.4)
    assert more[:20] == whole * 2
    assert (len(more), len(set(more[20:]))) == (24, 4)
    assert more[20:] == sorted(more[20:])
    assert answers(2.4) == more
    assert {tuple(answers(0.5, seed)) for seed in range(5)} != {tuple(answers(0.5))}
    assert sorted(answers(0.3) + answers(2)) != sorted(whole * 2)
    # A limit comes first: the weight repeats what was taken.
    some = answers(1, limit=4)
    assert answers(3, limit=4) == some * 3


def test_a_record_may_be_repeated_in_the_mix(tmp_path: Path) -> None:
    a, b = (write_lines(tmp_path / f"{name}.jsonl", row(name), row(name)) for name in "ab")
    sources = [DataSource(kind="jsonl", path=str(a), weight=3), DataSource(kind="jsonl", path=str(b))]
    assert [r.messages[1]["content"] for r in read_records(sources, 0)] == ["a"] * 6 + ["b"] * 2


@pytest.mark.parametrize(
    "wrong", [{"weight": 0}, {"weight": -1}, {"columns": {"picture": "x"}}, {"columns": {"text": ""}}]
)
def test_a_recipe_that_says_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"weight|columns"):
        DataSource(kind="jsonl", path="x", **wrong)
