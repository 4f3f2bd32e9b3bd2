"""Items of a task: the same choice everywhere, clusters, and a fingerprint that sees every change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import sha256_of
from taid_vlm_eval import load_task
from taid_vlm_eval.data import Item, data_folder, fingerprint, load_items, subset
from tests.eval.fakes import write_rows, write_task

ROWS = [{"id": f"i{n}", "question": f"q{n % 2}", "answer": "x", "images": [f"{n // 2}.png"]} for n in range(6)]


def items_of(folder: Path, **changes: Any) -> list[Item]:
    return load_items(load_task(write_task(folder, **changes)))


def test_data_is_found_beside_the_task_or_absolute(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    file = write_rows(tmp_path, ROWS)
    for path in ("../small.jsonl", str(file)):
        task = load_task(write_task(tmp_path / "tasks", data={"source": "jsonl", "path": path}))
        assert data_folder(task).resolve() == file
        assert [item.id for item in load_items(task)] == [row["id"] for row in ROWS]


def test_missing_data_and_unknown_assets_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task 'small': no data at .*small\.jsonl; put it there or change data\.path"):
        items_of(tmp_path)
    with pytest.raises(UserError, match="unknown asset 'easy-vqaa': did you mean 'easy-vqa'"):
        items_of(tmp_path, data={"source": "easy_vqa", "path": "asset:easy-vqaa"})


def test_no_items_and_equal_ids_are_told(tmp_path: Path) -> None:
    write_rows(tmp_path, [])
    with pytest.raises(UserError, match=r"split 'test' of .* holds no items"):
        items_of(tmp_path)
    write_rows(tmp_path, [ROWS[0], ROWS[0]])
    with pytest.raises(UserError, match="two items have the id 'i0'"):
        items_of(tmp_path)


def test_clusters(tmp_path: Path) -> None:
    write_rows(tmp_path, ROWS)
    assert [item.cluster for item in items_of(tmp_path)] == [f"i{n}" for n in range(6)]
    assert [item.cluster for item in items_of(tmp_path, cluster="question")] == ["q0", "q1"] * 3
    by_image = [item.cluster for item in items_of(tmp_path, cluster="image")]
    assert by_image == [str(tmp_path / f"{n // 2}.png") for n in range(6)]
    # Without an image there is nothing to share: every item stands alone.
    write_rows(tmp_path, [{**row, "images": []} for row in ROWS])
    assert [item.cluster for item in items_of(tmp_path, cluster="image")] == [f"i{n}" for n in range(6)]


@given(st.lists(st.text(max_size=5), unique=True, max_size=30), st.integers(1, 40), st.integers(0, 5))
def test_a_limit_takes_a_nested_part_in_order(ids: list[str], limit: int, seed: int) -> None:
    items = [Item(one, "q", "a") for one in ids]
    chosen = subset(items, limit, seed)
    assert len(chosen) == min(limit, len(items))
    assert chosen == [item for item in items if item in chosen]
    assert {item.id for item in chosen} <= {item.id for item in subset(items, limit + 1, seed)}
    assert {item.id for item in subset(items[::-1], limit, seed)} == {item.id for item in chosen}


def test_the_choice_depends_on_the_seed_and_is_pinned() -> None:
    items = [Item(f"i{n}", "q", "a") for n in range(100)]
    assert len({tuple(item.id for item in subset(items, 10, seed)) for seed in range(5)}) == 5
    # A change here would make figures of two versions incomparable.
    assert [item.id for item in subset(items, 5, 0)] == ["i31", "i35", "i71", "i85", "i90"]
    assert subset(items, None, 0) == items
    for limit in (0, -1):
        with pytest.raises(UserError, match=f"limit is {limit}, expected 1 or more"):
            subset(items, limit, 0)


def test_the_fingerprint_sees_content_and_not_places(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (2, 2), "red").save(tmp_path / folder / "1.png")
    item = Item("i", "q", "a", [tmp_path / "a" / "1.png"])
    same = replace(item, images=[tmp_path / "b" / "1.png"], cluster="other")
    assert fingerprint([item]) == fingerprint([same])
    Image.new("RGB", (2, 2), "blue").save(tmp_path / "b" / "1.png")
    others = [
        [replace(item, id="j")],
        [replace(item, question="r")],
        [replace(item, answer="b")],
        [replace(item, answer=["a", "b"])],
        [replace(item, facts={"category": "x"})],
        [replace(item, answer=["ab"])],
        [same],
        [replace(item, images=[])],
        [replace(item, images=[tmp_path / "gone.png"])],
        [replace(item, id="iq", question="")],
        [replace(item, answer=["a", sha256_of(item.images[0])], images=[])],  # the same texts, cut elsewhere
        [item, replace(item, id="j")],
        [replace(item, id="j"), item],
        [],
    ]
    prints = [fingerprint(items) for items in [[item], *others]]
    assert len(set(prints)) == len(prints)
