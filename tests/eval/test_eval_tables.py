"""Data sets in parquet and TSV: columns, pictures, what is broken or missing, and what stays in memory."""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from taid_vlm.common.errors import UserError
from taid_vlm_eval import load_task
from taid_vlm_eval.data import Item, data_folder, load_items
from taid_vlm_eval.data.store import PictureStore
from taid_vlm_eval.runner import evaluate
from tests.eval.fakes import FakeModel, write_task
from tests.tiny.benchmark_files import write_tsv
from tests.tiny.benchmarks import picture, png

COLUMNS = {"question": "question", "answer": "answer"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAID_VLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LMUData", str(tmp_path / "lmu"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


def hub_items(folder: Path, rows: Iterable[dict[str, Any]], **data: Any) -> list[Item]:
    (folder / "set").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "set" / "test.parquet")
    data = {"source": "hub", "path": "set", "columns": COLUMNS, **data}
    return load_items(load_task(write_task(folder, data=data, cluster="image")))


def row(n: int = 0, **cells: Any) -> dict[str, Any]:
    return {"question": f"q{n}", "answer": "x", **cells}


def test_pictures_come_as_bytes_structs_lists_and_paths(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "1.png").write_bytes(png(1))
    forms = {
        "bytes": png(1),
        "struct": picture(1),
        "list": [picture(1), picture(2)],
        "path": "1.png",
        "named": {"bytes": None, "path": "1.png"},
    }
    found = {
        key: hub_items(tmp_path, [row(image=cell)], columns={**COLUMNS, "images": "image"})[0]
        for key, cell in forms.items()
    }
    assert [len(found[key].images) for key in forms] == [1, 1, 2, 1, 1]
    for item in found.values():
        assert item.images[0].read_bytes() == png(1)
    # Equal pictures are one file, and one cluster.
    assert found["bytes"].images == found["struct"].images
    assert found["bytes"].cluster == found["struct"].cluster != found["list"].cluster


def test_a_decoded_picture_is_kept_without_loss(tmp_path: Path) -> None:
    store = PictureStore(tmp_path / "store", beside=tmp_path)
    image = Image.frombytes("RGB", (4, 3), bytes(range(36)))
    path = store.put(image)
    assert path is not None
    with Image.open(path) as again:
        assert again.tobytes() == image.tobytes()
    assert store.put(Image.new("CMYK", (2, 2))) is not None
    with pytest.raises(ValueError, match="a picture is int"):
        store.put(3)


def test_a_picture_cut_short_is_written_again(tmp_path: Path) -> None:
    store = PictureStore(tmp_path, beside=tmp_path)
    path = store.put(png(0))
    assert path is not None
    path.write_bytes(b"")
    assert store.put(png(0)) == path
    assert path.read_bytes() == png(0)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_broken_records_and_missing_pictures_are_told_and_wrong(tmp_path: Path) -> None:
    rows = [
        row(0, image=picture(0), options=["a", "b"], answer="B"),
        row(1, image=None, options=["a", "b"], answer="B"),
        row(2, image={"bytes": b"no picture", "path": None}, options=["a", "b"], answer="B"),
        row(3, image=picture(1), options=["a", "b"], answer="C"),
        row(4, image=picture(1), options=["a", "b"], answer=None),
        row(5, image={"bytes": None, "path": "gone.png"}, options=["a", "b"], answer="A"),
        {**row(6, image=picture(1), options=["a", "b"], answer="A"), "question": None},
    ]
    columns = {**COLUMNS, "images": "image", "options": "options"}
    hub_items(tmp_path, rows, columns=columns, answer="letter")
    data = {"source": "hub", "path": "set", "columns": columns, "answer": "letter"}
    task = write_task(tmp_path, data=data, scorer="choice")
    asked = FakeModel(lambda request: "B")
    (result,) = evaluate(asked, [task], output_dir=tmp_path / "out")
    assert (result.n, result.errors, result.value) == (7, 6, pytest.approx(1 / 7))
    assert [request.prompt for batch in asked.batches for request in batch] == ["q0\nA. a\nB. b"]
    told = {one["id"]: one["error"] for one in result.first_errors}
    assert told["1"] == "record 1 is broken: no picture in column 'image'"
    assert "is unreadable" in told["2"]
    assert told["3"] == "record 3 is broken: answer is 'C', expected one of 2 options"
    assert told["4"] == "record 4 is broken: no answer"
    assert told["5"] == "image gone.png is missing"


def test_columns_make_ids_facts_options_hints_and_suffixes(tmp_path: Path) -> None:
    cells = {"a": "k", "b": 7, "c1": "red", "c2": "", "c3": "nan", "c4": "blue", "h": "Look.", "s": "!", "level": 2}
    columns = {
        **COLUMNS,
        "id": ["a", "b"],
        "options": ["c1", "c2", "c3", "c4", "c5"],
        "hint": "h",
        "suffix": "s",
        "depth": "level",
        "both": ["a", "level"],
    }
    (item,) = hub_items(tmp_path, [row(**cells)], columns=columns, hint="Hint: ")
    assert item.id == "k-7"
    # An empty option is none, and moves no letter.
    assert item.question == "Hint: Look.\nq0\nA. red\nD. blue!"
    assert item.facts == {"options": {"A": "red", "D": "blue"}, "depth": 2, "both": ["k", 2]}


@pytest.mark.parametrize(
    ("kind", "cell", "truth"),
    [
        ("text", 7, "7"),
        ("text", ["a", "b"], ["a", "b"]),
        ("text", [{"answer": "a", "answer_id": 1}, {"answer": "a", "answer_id": 2}], ["a", "a"]),
        ("list", "['it', \"it's\"]", ["it", "it's"]),
        ("list", "plain", ["plain"]),
        ("yes-no", "1", "yes"),
        ("yes-no", 0, "no"),
        ("yes-no", "Yes", "yes"),
        ("letter", "(b)", "B"),
        ("index", 2, "C"),
        ("index", "2", "C"),
        ("none", None, ""),
    ],
)
def test_truths(tmp_path: Path, kind: str, cell: Any, truth: Any) -> None:
    (item,) = hub_items(tmp_path, [row(answer=cell)], answer=kind)
    assert (item.answer, item.broken) == (truth, "")


@pytest.mark.parametrize(
    ("kind", "cell"), [("yes-no", "2"), ("index", "x"), ("list", "['a"), ("text", []), ("text", float("nan"))]
)
def test_a_truth_that_is_none_breaks_its_record(tmp_path: Path, kind: str, cell: Any) -> None:
    (item,) = hub_items(tmp_path, [row(answer=cell)], answer=kind)
    assert item.broken.startswith("record 0 is broken: ")


def test_only_rows_with_these_values_are_kept(tmp_path: Path) -> None:
    rows = [row(n, part="ab"[n % 2], level=n) for n in range(4)]
    assert [item.question for item in hub_items(tmp_path, rows, keep={"part": "a"})] == ["q0", "q2"]
    assert [item.id for item in hub_items(tmp_path, rows, keep={"level": ["1", "2"]})] == ["1", "2"]
    with pytest.raises(UserError, match=r"data\.keep names the column 'lvl'"):
        hub_items(tmp_path, rows, keep={"lvl": "1"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"columns": {**COLUMNS, "category": "categry"}}, r"no column 'categry' \(data\.columns\.category\): did you"),
        ({"answer": "indx"}, r"unknown data\.answer 'indx': did you mean 'index'"),
        ({"options": "line"}, r"unknown data\.options 'line': did you mean 'lines'"),
        ({"layout": "circular"}, r"has no column 'index', which the layout 'circular' needs"),
        ({"layout": "mmu"}, "unknown layout 'mmu': did you mean 'mmmu'"),
        ({"split": "tset"}, r"no parquet files of split 'tset': did you mean 'test'"),
    ],
)
def test_mistakes_of_a_task_are_told(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        hub_items(tmp_path, [row(category="x")], **data)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    hub_items(tmp_path, [row()])
    (tmp_path / "set" / "test.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"test\.parquet does not read as parquet"):
        load_items(load_task(tmp_path / "small.yaml"))


def test_pictures_do_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    rows = pa.Table.from_pylist([row(n, image=n.to_bytes(4, "big") * 10_000) for n in range(1_000)])
    pq.write_table(rows, tmp_path / "set" / "test.parquet", row_group_size=50, compression="none", use_dictionary=False)
    del rows
    before, most = pa.total_allocated_bytes(), [0]
    put = PictureStore.put

    def watched(store: PictureStore, cell: Any) -> Path | None:
        most[0] = max(most[0], pa.total_allocated_bytes() - before)
        return put(store, cell)

    monkeypatch.setattr(PictureStore, "put", watched)
    data = {"source": "hub", "path": "set", "columns": {**COLUMNS, "images": "image"}}
    items = load_items(load_task(write_task(tmp_path, data=data)))
    assert len(items) == 1_000
    assert all(isinstance(path, Path) for item in items for path in item.images)
    assert 0 < most[0] < 8e6  # of 40 MB, in row groups of 2 MB


def tsv_items(folder: Path, rows: list[dict[str, Any]], **data: Any) -> list[Item]:
    write_tsv(folder / "set.tsv", rows)
    return load_items(load_task(write_task(folder, data={"source": "tsv", "path": "set.tsv", **data}, cluster="image")))


def test_tsv_cells_may_be_huge_lists_and_references(tmp_path: Path) -> None:
    huge = base64.b64encode(png(1) + bytes(1_000_000)).decode()
    two = str([base64.b64encode(png(n)).decode() for n in (1, 2)])
    rows = [
        row(0, index="a", image="b", A="yes", B="nan"),
        row(1, index="b", image=huge),
        row(2, index="c", image=two),
        row(3, index="d", image="gone"),
        row(4, index="e", image="!" * 80),
        row(5, index="f", image=""),
    ]
    items = tsv_items(tmp_path, rows)
    assert [len(item.images) for item in items] == [1, 1, 2, 0, 0, 0]
    assert items[0].images == items[1].images
    assert items[0].images[0].stat().st_size > 1_000_000
    assert (items[0].question, items[0].facts["options"]) == ("q0\nA. yes", {"A": "yes"})
    assert [item.id for item in items] == list("abcdef")
    assert items[3].broken == "record 3 is broken: no row 'gone' with the picture"
    assert "the picture is not base64" in items[4].broken
    assert items[5].broken == "record 5 is broken: no picture in column 'image'"


def test_a_tsv_may_hold_paths_or_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "set.tsv").write_text(
        "index\tquestion\tanswer\timage_path\n1\tq\tx\tp/1.png\n2\tr\ty\t['1.png', '2.png']\n"
    )
    task = write_task(tmp_path, data={"source": "tsv", "path": "set.tsv"})
    assert [item.images for item in load_items(load_task(task))] == [
        [tmp_path / "p" / "1.png"],
        [tmp_path / "1.png", tmp_path / "2.png"],
    ]
    (tmp_path / "set.tsv").write_text('\ufeffindex\tquestion\tanswer\n1\t"a\nb"\tx\n')
    (item,) = load_items(load_task(task))
    assert (item.id, item.question, item.images, item.broken) == ("1", "a\nb", [], "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the first line is"),
        (b"index,question\n1,q\n", "expected names of columns between tabs"),
        (b"index\tquestion\tanswer\n1\tq\n", r"line 2: found 2 cells, expected 3"),
        (b"index\tquestion\tanswer\n1\tcaf\xe9\tx\n", "is not UTF-8"),
    ],
)
def test_a_broken_tsv_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "set.tsv").write_bytes(content)
    with pytest.raises(UserError, match=rf"set\.tsv.*{message}"):
        load_items(load_task(write_task(tmp_path, data={"source": "tsv", "path": "set.tsv"})))


def test_where_a_tsv_may_lie(tmp_path: Path, cache: Path) -> None:
    task = load_task(write_task(tmp_path, data={"source": "tsv", "path": "X.tsv", "url": "https://example.org/X.tsv"}))
    with pytest.raises(
        UserError, match=r"task 'small': no file X\.tsv; fetch https://example\.org/X\.tsv and put it into"
    ):
        data_folder(task)
    for folder in (cache / "data", tmp_path / "lmu", tmp_path):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "X.tsv").write_text("")
        assert data_folder(task) == folder / "X.tsv"


def test_keys_of_tables_are_refused_where_there_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "small.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    for key, value in (("columns", {"question": "q"}), ("layout", "mmmu"), ("answer", "index")):
        task = write_task(tmp_path, data={"source": "jsonl", "path": "small.jsonl", key: value})
        with pytest.raises(UserError, match=rf"data\.{key} is for tables"):
            load_items(load_task(task))
