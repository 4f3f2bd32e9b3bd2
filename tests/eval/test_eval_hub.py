"""Which files of a data set are read, where it is looked for, and what is told when it is not here."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taid_vlm.common.errors import UserError
from taid_vlm_eval import load_task
from taid_vlm_eval.data import data_folder, hub, load_items
from taid_vlm_eval.data.hub import choose_files, is_offline
from taid_vlm_eval.task import TaskFile
from tests.eval.fakes import write_task

NAMES = [
    "data/test-00001-of-00002.parquet",
    "data/test-00000-of-00002.parquet",
    "data/validation-00000-of-00001.parquet",
    "en/test-00000-of-00001.parquet",
    "cn/test/0000.parquet",
    "default/train/0000.parquet",
    "odd.parquet",
    "test.jsonl",
]
CARD = """---
license: mit
configs:
- config_name: default
  data_files:
  - {split: test, path: data/validation-*}
- config_name: odd
  data_files:
  - split: test
    path: [odd.parquet]
---
# A set
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "why_unreachable", lambda address: "")
    return tmp_path / "cache"


def hub_task(folder: Path, **data: Any) -> TaskFile:
    content = {"source": "hub", "path": "owner/name", "columns": {"question": "question", "answer": "answer"}, **data}
    return load_task(write_task(folder, data=content))


def write_part(path: Path, question: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([{"question": question, "answer": "x"}]), path)


@pytest.mark.parametrize(
    ("card", "config", "split", "chosen"),
    [
        ("", "", "test", [NAMES[1], NAMES[0]]),
        ("", "", "validation", [NAMES[2]]),
        ("", "en", "test", [NAMES[3]]),
        ("", "cn", "test", [NAMES[4]]),
        ("", "", "train", [NAMES[5]]),
        (CARD, "", "test", [NAMES[2]]),
        (CARD, "odd", "test", [NAMES[6]]),
        (CARD, "en", "test", [NAMES[3]]),
        ("---\nnot: [valid\n---\n", "", "validation", [NAMES[2]]),
        ("# no front matter\n---\nconfigs\n", "", "validation", [NAMES[2]]),
    ],
)
def test_files_are_chosen_by_the_card_and_by_usual_names(card: str, config: str, split: str, chosen: list[str]) -> None:
    assert choose_files(NAMES, card, config, split) == chosen


def test_files_that_are_not_there_are_told() -> None:
    with pytest.raises(UserError, match=r"no parquet files of split 'tset': did you mean 'test'"):
        choose_files(NAMES, "", "", "tset")
    with pytest.raises(UserError, match="there are no parquet files at all"):
        choose_files(["test.jsonl"], "", "", "test")


@pytest.mark.parametrize(("value", "off"), [("1", True), ("true", True), ("0", False), ("", False), ("OFF", False)])
def test_offline_is_said_by_the_environment(monkeypatch: pytest.MonkeyPatch, value: str, off: bool) -> None:
    assert not is_offline()
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert is_offline() is off


def test_a_folder_beside_the_task_wins_over_one_in_the_cache(tmp_path: Path, cache: Path) -> None:
    task = hub_task(tmp_path)
    write_part(cache / "data" / "owner" / "name" / "data" / "test-00000-of-00001.parquet", "from the cache")
    assert [item.question for item in load_items(task)] == ["from the cache"]
    write_part(tmp_path / "owner" / "name" / "test.parquet", "from here")
    assert [item.question for item in load_items(task)] == ["from here"]
    write_part(tmp_path / "one.parquet", "a single file")
    assert [item.question for item in load_items(hub_task(tmp_path, path="one.parquet"))] == ["a single file"]


def test_several_configs_are_read_in_their_order(tmp_path: Path) -> None:
    for config in "ab":
        write_part(tmp_path / "set" / config / "test.parquet", config)
    items = load_items(hub_task(tmp_path, path="set", config=["b", "a"]))
    assert [(item.id, item.question) for item in items] == [("0", "b"), ("1", "a")]


def test_missing_data_is_one_clear_message(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as caught:
        data_folder(hub_task(tmp_path, revision="v2"))
    message = str(caught.value)
    assert "task 'small': the data set owner/name is not here and was not fetched (HF_HUB_OFFLINE is set)" in message
    assert "`hf download owner/name --repo-type dataset --revision v2`" in message
    assert str(cache / "data" / "owner" / "name") in message
    assert "\n" not in message
    with pytest.raises(UserError, match=r"no data at .*gone; put it there"):
        data_folder(hub_task(tmp_path, path="gone"))


def test_only_the_files_of_the_task_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def listing(self: object, **given: Any) -> list[str]:
        asked.append(given)
        return [*NAMES, "README.md"]

    def snapshot(**given: Any) -> str:
        asked.append(given)
        return str(tmp_path / "snapshot")

    (tmp_path / "card.md").write_text("# no front matter")
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", listing)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda **given: str(tmp_path / "card.md"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert data_folder(hub_task(tmp_path, config="en", revision="v2")) == tmp_path / "snapshot"
    kept = {"repo_id": "owner/name", "repo_type": "dataset", "revision": "v2"}
    assert asked == [kept, {**kept, "allow_patterns": ["README.md", NAMES[3]]}]


def test_without_a_network_the_cache_of_the_hub_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: object, **given: Any) -> list[str]:
        raise ConnectionError("no route to host")

    def snapshot(**given: Any) -> str:
        if not given.get("local_files_only"):
            raise AssertionError("the network was asked")
        if given["repo_id"] != "owner/name":
            raise FileNotFoundError(given["repo_id"])
        return str(tmp_path / "snapshot")

    write_part(tmp_path / "snapshot" / "data" / "test-00000-of-00001.parquet", "q")
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", refused)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert data_folder(hub_task(tmp_path)) == tmp_path / "snapshot"
    with pytest.raises(UserError, match=r"was not fetched \(no route to host\)"):
        data_folder(hub_task(tmp_path, path="owner/other"))
    # The cache holds the data set, but not this part of it.
    with pytest.raises(UserError, match=r"`hf download owner/name"):
        data_folder(hub_task(tmp_path, split="validation"))
