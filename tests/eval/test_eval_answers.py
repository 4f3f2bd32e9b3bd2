"""The answers file: cut at any byte it goes on, and answers of another call are never mixed in."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taid_vlm.common.errors import UserError
from taid_vlm_eval.answers import Answer, line_of, read_answers
from taid_vlm_eval.answers_file import AnswersFile
from taid_vlm_eval.marks import Places

HEADER = {"model": {"name": "m"}, "task": "small", "limit": None, "seed": 0}
ANSWERS = [
    Answer(id="a", answer="red", error=None),
    Answer(id="b", answer='two\nlines \u2028 "quoted" é', error=None),
    Answer(id="c", answer="", error="image 1.png is missing"),
    Answer(id="d", answer="half \ud800 pair", error=None),
]
IDS = Places(one["id"] for one in ANSWERS)


def write(path: Path, answers: list[Answer] = ANSWERS) -> bytes:
    with AnswersFile(path, HEADER, IDS) as file:
        file.append(answers)
    return path.read_bytes()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    raw = write(path := tmp_path / "x.answers.jsonl")
    header, answers, sound = read_answers(path)
    assert (header, list(answers.values()), sound) == (HEADER, ANSWERS, len(raw))
    assert "é".encode() in raw  # readable, not escaped
    assert [json.loads(line)["id"] for line in raw.splitlines()[1:]] == ["a", "b", "c", "d"]


def test_an_item_is_written_once_and_the_first_answer_holds(tmp_path: Path) -> None:
    raw = write(path := tmp_path / "x.answers.jsonl")
    with AnswersFile(path, HEADER, IDS) as file:
        file.append([Answer(id="a", answer="blue", error=None), *ANSWERS])
        assert file["a"]["answer"] == "red"
    assert path.read_bytes() == raw


def test_each_append_is_in_the_file_at_once(tmp_path: Path) -> None:
    with AnswersFile(path := tmp_path / "x.answers.jsonl", HEADER, IDS) as file:
        file.append(ANSWERS[:2])
        assert len(read_answers(path)[1]) == 2


def test_cut_at_any_byte_it_goes_on_to_the_same_file(tmp_path: Path) -> None:
    raw = write(path := tmp_path / "x.answers.jsonl")
    first_line = raw.index(b"\n") + 1
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with AnswersFile(path, HEADER, IDS) as file:
            assert list(file) == ["a", "b", "c", "d"][: max(0, raw[:length].count(b"\n") - 1)]
            # A header cut short says nothing of what it was; whatever there was of it is kept aside.
            assert bool(file.set_aside) == (0 < length < first_line)
            file.append(ANSWERS)
        assert path.read_bytes() == raw, length


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=30), st.sampled_from([b"", b"\n"]))
def test_damage_ends_what_counts_and_never_crashes(tmp_path: Path, junk: bytes, end: bytes) -> None:
    raw = write(tmp_path / "good.jsonl", ANSWERS[:1])
    (path := tmp_path / "x.jsonl").write_bytes(raw + junk + end + b'{"id": "z", "answer": "", "error": nul')
    header, answers, sound = read_answers(path)
    assert header == HEADER
    assert list(answers) == ["a"]
    assert sound == len(raw)


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": ["a"], "answer": "x", "error": null}\n',
        b'{"id": 1, "answer": "x", "error": null}\n',
        b'{"id": "a", "answer": null, "error": null}\n',
        b'{"id": "a", "answer": "x", "error": 5}\n',
        b'{"id": "a", "answer": "x"}\n',
        b"[1]\n",
    ],
)
def test_a_line_of_another_shape_does_not_count(tmp_path: Path, line: bytes) -> None:
    raw = write(path := tmp_path / "x.jsonl", [])
    path.write_bytes(raw + line + b'{"id": "late", "answer": "x", "error": null}\n')
    assert read_answers(path)[1:] == ({}, len(raw))


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ({**HEADER, "model": {"name": "other"}}, "another model;"),
        ({**HEADER, "limit": 5, "seed": 1}, "another limit, seed;"),
        ({**HEADER, "prompt": {}}, "another prompt;"),
    ],
)
def test_answers_of_another_call_are_set_aside_and_it_is_told(tmp_path: Path, header: dict, named: str) -> None:
    raw = write(path := tmp_path / "x.jsonl")
    with AnswersFile(path, header, IDS) as file:
        assert dict(file) == {}
        assert named in file.set_aside
        assert "x.jsonl.old" in file.set_aside
    assert (tmp_path / "x.jsonl.old").read_bytes() == raw
    assert read_answers(path)[0] == header


def test_a_file_that_is_none_of_ours_is_kept(tmp_path: Path) -> None:
    (path := tmp_path / "x.jsonl").write_text("my notes\n")
    with AnswersFile(path, HEADER, IDS) as file:
        assert "is not an answers file" in file.set_aside
    assert (tmp_path / "x.jsonl.old").read_text() == "my notes\n"


def test_tuples_in_a_header_are_lists_in_the_file(tmp_path: Path) -> None:
    for _ in range(2):
        with AnswersFile(tmp_path / "x.jsonl", {"sizes": (1, 2)}, IDS) as file:
            assert file.set_aside == ""


@pytest.mark.parametrize("inside", ["x.jsonl", "deeper/x.jsonl"])
def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path, inside: str) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"taken.*choose another"):
        AnswersFile(tmp_path / "taken" / inside, HEADER, IDS)


def test_a_batch_that_was_cut_short_by_a_kill_does_not_count_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, writes, write_at = write(tmp_path / "whole.jsonl"), list[bytes](), os.pwrite

    class Killed(BaseException):
        pass

    def torn(handle: int, part: bytes, place: int) -> int:
        if len(writes) == dies_at:
            write_at(handle, part[: len(part) * 2 // 3], place)
            raise Killed
        writes.append(part)
        return write_at(handle, part, place)

    for dies_at in (0, 1):
        path, writes = tmp_path / f"{dies_at}.jsonl", []
        with monkeypatch.context() as patch, AnswersFile(path, HEADER, IDS) as file:
            patch.setattr(os, "pwrite", torn)
            with pytest.raises(Killed):
                file.append(ANSWERS)
        assert read_answers(path)[1] == {}
        with AnswersFile(path, HEADER, IDS) as file:
            assert len(file) == 0
            file.append(ANSWERS)
        assert path.read_bytes() == raw


def test_what_another_process_has_not_finished_writing_is_not_there_yet(tmp_path: Path) -> None:
    with AnswersFile(path := tmp_path / "x.jsonl", HEADER, IDS) as file:
        end, line = path.stat().st_size, line_of(ANSWERS[0])
        with path.open("r+b") as other:
            other.seek(end + 1)
            other.write(line[1:])
            other.flush()
            file.refresh()
            assert len(file) == 0
            other.seek(end)
            other.write(line[:1])
            other.flush()
            file.refresh()
            assert dict(file) == {"a": ANSWERS[0]}


def test_starting_anew_is_cut_short_without_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, other = write(path := tmp_path / "x.jsonl"), {**HEADER, "seed": 1}

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            AnswersFile(path, other, IDS)
    with AnswersFile(path, other, IDS) as file:
        assert len(file) == 0
    assert (tmp_path / "x.jsonl.old").read_bytes() == raw
    assert not list(tmp_path.glob(".*.new"))
