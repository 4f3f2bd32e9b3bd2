"""Task files: the shipped ones load, and every mistake in one is a single clear message."""

from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm_eval import list_tasks, load_task
from taid_vlm_eval.task import Data, Generation, Prompt
from tests.eval.fakes import task_content, write_task


def test_shipped_tasks_load() -> None:
    assert {"chatterbot", "easy_vqa"} <= set(list_tasks())
    easy, chatter = (load_task(name).task for name in ("easy_vqa", "chatterbot"))
    assert easy.data == Data("easy_vqa", "asset:easy-vqa", "test")
    assert (easy.scorer, easy.metric, easy.cluster) == ("exact_match", "accuracy", "image")
    assert (chatter.scorer, chatter.metric, chatter.cluster) == ("rouge_l", "rouge_l", "question")


def test_what_may_be_left_out_has_its_default(tmp_path: Path) -> None:
    loaded = load_task(write_task(tmp_path))
    assert loaded.folder == tmp_path
    assert (loaded.task.cluster, loaded.task.protocol, loaded.task.prompt) == ("item", "", Prompt("", ""))
    assert loaded.task.generation == Generation(4, True)
    assert loaded.task.data.split == "test"


def test_own_folders_add_tasks(tmp_path: Path) -> None:
    write_task(tmp_path)
    assert list_tasks([tmp_path]) == sorted([*list_tasks(), "small"])
    assert load_task("small", [tmp_path]).task.description == "a few questions"
    with pytest.raises(UserError, match="unknown task 'small'"):
        load_task("small")
    with pytest.raises(UserError, match=r"no folder of tasks at .*gone"):
        list_tasks([tmp_path / "gone"])
    write_task(tmp_path, name="easy_vqa")
    with pytest.raises(UserError, match="two tasks are called 'easy_vqa'"):
        list_tasks([tmp_path])


def test_unknown_names_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^unknown task 'easy_vqua': did you mean 'easy_vqa'"):
        load_task("easy_vqua")
    with pytest.raises(UserError, match=r"^unknown task 'xyz': known names: .*chatterbot, .*easy_vqa"):
        load_task("xyz")
    with pytest.raises(UserError, match=r"^no task file at .*gone\.yaml$"):
        load_task(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scorrer": "x"}, r"small\.yaml: unknown key 'scorrer': did you mean 'scorer'"),
        ({"data": {"source": "jsonl", "path": "x", "spilt": "x"}}, r"data: unknown key 'spilt': did you mean 'split'"),
        ({"data": {"source": "jsonl"}}, "data: key 'path' is missing"),
        ({"data": None}, "data: found NoneType, expected keys and values"),
        ({"data": {"source": "json", "path": "x"}}, "unknown data source 'json': did you mean 'jsonl'"),
        ({"scorer": "exact-match"}, r"small\.yaml: unknown scorer 'exact-match': did you mean 'exact_match'"),
        ({"metric": "accurac"}, r"small\.yaml: unknown metric 'accurac'"),
        ({"cluster": "images"}, "unknown cluster 'images': did you mean 'image'"),
        ({"generation": {}}, "generation: key 'max_new_tokens' is missing"),
        ({"generation": {"max_new_tokens": "8"}}, r"max_new_tokens is '8' \(str\), expected a whole number"),
        ({"generation": {"max_new_tokens": True}}, r"max_new_tokens is True \(bool\), expected a whole number"),
        ({"generation": {"max_new_tokens": 0}}, "max_new_tokens is 0, expected 1 or more"),
        ({"generation": {"max_new_tokens": 8, "greedy": False}}, "only greedy answers are supported"),
        ({"generation": {"max_new_tokens": 8, "greedy": 1}}, r"greedy is 1 \(int\), expected true or false"),
        ({"description": 3}, r"description is 3 \(int\), expected text; put it in quotes"),
    ],
)
def test_a_mistake_in_a_task_is_told(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_task(write_task(tmp_path, **changes))


@pytest.mark.parametrize("key", [key for key in task_content() if key != "name"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    path = write_task(tmp_path)
    lines, kept, skipping = path.read_text().splitlines(), [], False
    for line in lines:
        if not line.startswith(" "):
            skipping = line.startswith(f"{key}:")
        if not skipping:
            kept.append(line)
    path.write_text("\n".join(kept))
    with pytest.raises(UserError, match=f"key '{key}' is missing"):
        load_task(path)


def test_the_name_must_be_that_of_the_file(tmp_path: Path) -> None:
    path = write_task(tmp_path).rename(tmp_path / "other.yaml")
    with pytest.raises(UserError, match="name is 'small', expected 'other'"):
        load_task(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "found NoneType, expected keys and values"),
        (b"- a\n- b\n", "found list, expected keys and values"),
        (b"name: [", "is not valid YAML"),
        (b"name: a\nname: b\n", "line 2: key 'name' is given twice"),
        (b"name: a\ndata:\n  path: x\n  path: y\n", "line 4: key 'path' is given twice"),
        (b"name: caf\xe9\n", "is not valid YAML"),  # Latin-1
        (b"description: 2024-13-45\n", "is not valid YAML"),  # looks like a date
        (b"? [a, b]\n: c\n", "is not valid YAML"),
        (b"1: x\n", "unknown key 1"),
    ],
)
def test_a_broken_file_is_told(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "small.yaml").write_bytes(text)
    with pytest.raises(UserError, match=rf"small\.yaml.*{message}"):
        load_task(tmp_path / "small.yaml")
