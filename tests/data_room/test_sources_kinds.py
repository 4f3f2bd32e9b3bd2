"""The same conversations come out of every format with the same words and pictures, and nothing else depends on the format."""

import json
import multiprocessing
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.data import Pairer, PreparedRecords, Record, StepOrder, open_image, read_records
from taid_vlm.data.pictures import PictureBytes, PictureInArchive, PictureInTable
from taid_vlm.data.sources.shards import expand
from taid_vlm.models.processor import ImageTokens, Processor, template_text
from taid_vlm.models.vision_encoder import ImageInput
from taid_vlm.recipe.data_spec import DataSource
from tests.data_room.judging import judged
from tests.tiny.language_model import tiny_tokenizer
from tests.tiny.sources import CONVERSATIONS, WRITERS, add_member, png, table_rows, write_saved, write_shards


def read(kind: str, path: Path | str, **options: Any) -> list[Record]:
    return read_records([DataSource(kind=kind, path=str(path), **options)], seed=0)


def of_kind(kind: str, folder: Path) -> list[Record]:
    write, options = WRITERS[kind]
    path = write(folder)
    if "image_folder" in options:
        options = {"image_folder": str(folder / options["image_folder"])}
    return read(kind, path, **options)


def pixels(records: list[Record]) -> list[list[bytes]]:
    return [[open_image(picture).tobytes() for picture in record.images] for record in records]


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_records(tmp_path: Path, kind: str) -> None:
    records = of_kind(kind, tmp_path)
    assert [record.messages for record in records] == [messages for messages, _ in CONVERSATIONS]
    assert [[p.read_bytes() for p in r.images] for r in records] == [
        [png(i) for i in some] for _, some in CONVERSATIONS
    ]
    for record in records:
        record.check()
    assert len({record.id for record in records}) == len(records)


@pytest.mark.parametrize(
    ("kind", "lazy"),
    [
        ("parquet", PictureInTable),
        ("huggingface", PictureInTable),
        ("webdataset", PictureInArchive),
        ("mantis", PictureInTable),
    ],
)
def test_pictures_stay_where_they_are_until_they_are_needed(tmp_path: Path, kind: str, lazy: type) -> None:
    records = of_kind(kind, tmp_path)
    pictures = [picture for record in records for picture in record.images]
    assert pictures
    assert all(isinstance(picture, lazy) for picture in pictures)
    assert len(pickle.dumps(pictures)) < 500 * len(pictures)
    assert len(set(pictures)) == len(pictures)
    assert all(pickle.loads(pickle.dumps(picture)) == picture for picture in pictures)


def _read_all(records: list[Record]) -> list[list[bytes]]:
    return [[picture.read_bytes() for picture in record.images] for record in records]


@pytest.mark.slow
def test_spawned_workers_read_the_same_pictures(tmp_path: Path) -> None:
    records = [record for kind in WRITERS for record in of_kind(kind, tmp_path / kind)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_read_all, (records,)) == _read_all(records)


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "jsonl"])
def test_steps_and_a_resumed_run_do_not_depend_on_the_format(tmp_path: Path, kind: str) -> None:
    image = ImageInput(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
    processor = Processor(tiny_tokenizer(), template_text("chatml"), ImageTokens("<empty_output>", 2, image))

    def run(records: list[Record], first: int) -> list[Any]:
        prepared = PreparedRecords(records, Pairer(processor, None, 512), False, decode_pictures=True)
        seen = []
        for batch in StepOrder(len(records), 2, 2, seed=3, first_step=first, last_step=6):
            for pair, pictures in map(prepared.__getitem__, batch):
                seen.append((pair.student.ids, pair.student.rows, [picture.tobytes() for picture in pictures]))
        return seen

    lines, other = of_kind("jsonl", tmp_path / "lines"), of_kind(kind, tmp_path / "other")
    assert run(other, 0) == run(lines, 0)
    assert run(other, 4) == run(lines, 0)[8:]


def test_a_folder_of_data_files_is_read_by_the_library(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(table_rows()), folder / "train-00000.parquet")
    pq.write_table(pa.Table.from_pylist(table_rows()[:1]), folder / "test-00000.parquet")
    assert len(read("huggingface", folder)) == 4
    assert len(read("huggingface", folder, split="test")) == 1
    sliced = read("huggingface", folder, split="train[1:3]")
    assert [record.messages for record in sliced] == [messages for messages, _ in CONVERSATIONS[1:3]]
    assert [p.read_bytes() for p in sliced[1].images] == [png(i) for i in range(3)]


def test_a_stream_reads_the_first_records_only(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(table_rows()), tmp_path / "train-00000.parquet")
    records = read("huggingface", tmp_path, streaming=True, limit=3)
    assert [record.messages for record in records] == [messages for messages, _ in CONVERSATIONS[:3]]
    assert all(isinstance(picture, PictureBytes) for record in records for picture in record.images)
    assert pixels(records) == pixels(read("huggingface", tmp_path))[:3]
    with pytest.raises(ValueError, match="set limit"):
        DataSource(kind="huggingface", path=str(tmp_path), streaming=True)
    with pytest.raises(UserError, match="streaming is for hub data sets"):
        read("jsonl", tmp_path, streaming=True, limit=3)


def test_a_split_or_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    saved = write_saved(tmp_path / "saved")
    with pytest.raises(UserError, match=r"no split 'trian': did you mean 'train'"):
        read("huggingface", saved, split="trian")
    with pytest.raises(UserError, match="data set not found"):
        read("huggingface", tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot load the data set no-one/has-this"):
        read("huggingface", "no-one/has-this")
    pq.write_table(pa.Table.from_pylist(table_rows()), tmp_path / "valid.parquet")
    with pytest.raises(UserError, match=r"no Parquet files of split 'train'.*it has valid\.parquet"):
        read("parquet", tmp_path)
    (tmp_path / "broken.parquet").write_text("not a table")
    with pytest.raises(UserError, match=r"cannot load the data set .*broken\.parquet"):
        read("parquet", tmp_path / "broken.parquet")


def test_pictures_in_a_table_may_be_bytes_paths_or_missing(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(0))
    ask = [{"role": "user", "content": [{"type": "image", "text": None}]}, {"role": "assistant", "content": None}]
    ask[1]["content"] = [{"type": "text", "text": "yes"}]
    for number, cell in enumerate((png(0), "0.png", {"bytes": png(0), "path": None}, {"bytes": None, "path": "0.png"})):
        for form in (cell, [cell]):
            file = tmp_path / f"x{number}{isinstance(form, list)}.parquet"
            schema_of = pa.Table.from_pylist([{"messages": ask, "images": form}, {"messages": ask, "images": None}])
            pq.write_table(schema_of, file)
            first, second = read("parquet", file)
            assert [p.read_bytes() for p in first.images] == [png(0)], (cell, form)
            assert second.images == ()


def test_cauldron_puts_pictures_first_and_keeps_turns(tmp_path: Path) -> None:
    texts = [
        {"user": "Left?", "assistant": "A dog.", "source": "x"},
        {"user": "Right?", "assistant": "A cat.", "source": "x"},
    ]
    rows = [
        {"images": [{"bytes": png(i), "path": None} for i in (0, 1)], "texts": texts},
        {"images": [], "texts": texts},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train-0.parquet")
    for path in (tmp_path, tmp_path / "train-0.parquet"):
        seen, heard = read("cauldron", path)
        assert [m["role"] for m in seen.messages] == ["user", "assistant"] * 2
        assert [part["type"] for part in seen.messages[0]["content"]] == ["image", "image", "text"]
        assert seen.messages[2]["content"] == "Right?"
        assert heard.messages[0]["content"] == "Left?"
        seen.check()
        heard.check()


def test_ultrachat_is_read_by_its_own_splits(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    row = {"prompt": "Hi", "prompt_id": "a1", "messages": messages}
    pq.write_table(pa.Table.from_pylist([row, row]), tmp_path / "train_sft-00000-of-00001.parquet")
    records = read("ultrachat", tmp_path / "train_sft-00000-of-00001.parquet")
    assert [record.messages for record in records] == [messages, messages]
    (tmp_path / "train_sft.jsonl").write_text(json.dumps(row) + "\n")
    assert read("ultrachat", tmp_path, split="train_sft")[0].messages == messages


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_csv_beside_its_pictures(tmp_path: Path, split: str) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.png").write_bytes(png(0))
    text = '\ufeffimage,question,answer,more\npictures/0.png,"What,\nreally?",Red,1\n,Alone?,"Say ""yes""",2\n'
    (tmp_path / f"{split}.csv").write_text(text, encoding="utf-8")
    if split == "test":
        (tmp_path / "other.csv").write_text("image\n")
    seen, alone = read("csv", tmp_path, split=split)
    assert seen.messages[0]["content"] == [{"type": "image"}, {"type": "text", "text": "What,\nreally?"}]
    assert seen.images == (tmp_path / "pictures" / "0.png",)
    assert alone.messages[1]["content"] == 'Say "yes"'
    assert alone.images == ()
    assert (seen.id, alone.id) == (f"{tmp_path / split}.csv:2", f"{tmp_path / split}.csv:4")


def test_pictures_with_captions_in_a_shard(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-0.tar", "w") as archive:
        for name, data in (
            ("a/x.jpg", png(0)),
            ("a/x.txt", "ein Bär".encode()),
            ("b/x.txt", b"alone"),
            ("b/x.cls", b"3"),
        ):
            add_member(archive, name, data)
    for path in (tmp_path, tmp_path / "train-0.tar", tmp_path / "train-*.tar"):
        seen, alone = read("webdataset", path, columns={"answer": "txt", "question": None})
        assert seen.messages == [
            {"role": "user", "content": [{"type": "image"}]},
            {"role": "assistant", "content": "ein Bär"},
        ]
        assert seen.images[0].read_bytes() == png(0)
        assert (alone.images, alone.messages[0]["content"]) == ((), "")
        assert alone.id == f"{tmp_path / 'train-0.tar'}:b/x"


def test_odd_members_of_a_shard_cost_no_good_sample(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    good = json.dumps({"messages": talk}).encode()
    members = [
        ("000.json", good),
        ("001.json", b"{broken"),
        ("001.png", png(0)),
        ("002.json", b"[1, 2]"),
        ("003.png", png(1)),
        ("README", b"no extension"),
        (".hidden", b"x"),
        ("004.json", b'{"messages": "\xff"}'),
        ("005.json", b""),
        ("006.JSON", good),
        ("007.txt", b"\xff"),
        ("folder.v2/008.json", good),
    ]
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        directory = tarfile.TarInfo("folder.v2")
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        for name, data in members:
            add_member(archive, name, data)
        link = tarfile.TarInfo("009.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
        add_member(archive, "ü" * 120 + ".json", good)
    records = read("webdataset", tmp_path / "x.tar")
    assert [r.id.rsplit(":", 1)[1][:13] for r in records if judged(r) is None] == [
        "000",
        "006",
        "folder.v2/008",
        "ü" * 13,
    ]
    bad = {r.id.rsplit(":", 1)[1]: r.broken.reason for r in records if r.broken is not None}
    unreadable = dict.fromkeys(("001", "002", "004", "005"), "unreadable row")
    assert bad == {**unreadable, "003": "missing column", "007": "missing column"}


def test_braces_count_and_list() -> None:
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{a,b}-{0..1}") == ["a-0", "a-1", "b-0", "b-1"]
    assert expand("plain") == ["plain"]


def test_shards_that_are_missing_or_compressed_are_named(tmp_path: Path) -> None:
    write_shards(tmp_path)
    with pytest.raises(UserError, match=r"shards not found: .*train-02\.tar"):
        read("webdataset", tmp_path / "train-{00..02}.tar")
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as archive:
        add_member(archive, "x.txt", b"x")
    with pytest.raises(UserError, match="not an uncompressed tar"):
        read("webdataset", tmp_path / "packed.tar.gz")


@pytest.mark.parametrize(("where", "ends"), [("header", 512), ("header", 100), ("data", 0)])
def test_a_damaged_shard_costs_only_what_is_lost(tmp_path: Path, where: str, ends: int) -> None:
    write_shards(tmp_path)
    first = tmp_path / "train-00.tar"
    first.write_bytes(first.read_bytes()[: 1024 if where == "header" else 1800] + b"\x01" * ends)
    records = read("webdataset", tmp_path / "train-{00..01}.tar")
    good = [record.messages for record in records if judged(record) is None]
    assert good == [messages for messages, _ in (CONVERSATIONS[0], *CONVERSATIONS[2:])]
    bad = [error for record in records if (error := judged(record)) is not None]
    # Of a sample that is cut, what is there has no picture; the shard itself is told as well.
    assert [error.reason for error in bad] == ["image count"] * (where == "data") + ["unreadable row"]
    assert "train-00.tar" in str(bad[-1])


def test_parquet_files_have_their_pictures_beside_them(tmp_path: Path) -> None:
    for index, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png(index))
        rows = {"messages": [as_said("<image>What?", "This.")], "images": [["0.png"]]}
        pq.write_table(pa.table(rows), tmp_path / name / "train.parquet")
    records = read("parquet", tmp_path, columns={"images": "images"}, image_mark="<image>")
    assert [picture.read_bytes() for record in records for picture in record.images] == [png(0), png(1)]
    assert len({record.id for record in records}) == 2


def test_splits_of_a_set_have_other_names_for_their_rows(tmp_path: Path) -> None:
    for split in ("train", "test"):
        pq.write_table(pa.table({"messages": [as_said("What?", split)]}), tmp_path / f"{split}.parquet")
    for kind in ("parquet", "huggingface"):
        assert read(kind, tmp_path)[0].id != read(kind, tmp_path, split="test")[0].id


def test_a_saved_split_cannot_be_sliced(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"messages": [as_said("What?", "This.")] * 3}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(UserError, match=r"cannot be cut.*limit"):
        read("huggingface", tmp_path / "saved", split="train[:2]")


@pytest.mark.parametrize("named", [True, False])
def test_pictures_of_a_shard_come_in_their_own_order(tmp_path: Path, named: bool) -> None:
    marks = "".join("<image>" for _ in range(12))
    sample = {"messages": as_said(marks, "Many.")}
    if named:
        sample["images"] = [f"k.{i}.png" for i in reversed(range(12))]  # type: ignore[assignment]
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        add_member(archive, "k.json", json.dumps(sample).encode())
        for i in sorted(range(12), key=str):  # as an archive that was sorted by name
            add_member(archive, f"k.{i}.png", bytes([i]))
    (record,) = read("webdataset", tmp_path / "s.tar", image_mark="<image>")
    expected = [bytes([i]) for i in range(12)]
    assert [picture.read_bytes() for picture in record.images] == (expected[::-1] if named else expected)


def test_a_byte_order_mark_is_no_part_of_a_line(tmp_path: Path) -> None:
    line = json.dumps({"messages": as_said("What?", "This.")}).encode()
    (tmp_path / "x.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n")
    (record,) = read("jsonl", tmp_path / "x.jsonl")
    record.check()


def as_said(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_files_of_several_splits_are_not_mixed(tmp_path: Path) -> None:
    def names(split: str) -> list[str]:
        return [r.messages[1]["content"] for r in read("parquet", tmp_path, split=split)]

    for name in ("train_sft-00000-of-00002", "train_sft-00001-of-00002-ab12", "train_gen-00000-of-00001", "test_2"):
        pq.write_table(pa.table({"messages": [as_said("What?", name)]}), tmp_path / f"{name}.parquet")
    assert names("train_sft") == ["train_sft-00000-of-00002", "train_sft-00001-of-00002-ab12"]
    assert names("test") == ["test_2"]
    assert names("train_g") == ["train_gen-00000-of-00001"]
    with pytest.raises(UserError, match="begin with 'train' are of several splits: train_gen, train_sft; set split"):
        names("train")
    pq.write_table(pa.table({"messages": [as_said("What?", "all")]}), tmp_path / "train.parquet")
    assert names("train") == ["all"]


def test_what_the_library_says_of_configurations_is_told(tmp_path: Path) -> None:
    configs = []
    for name in ("ai2d", "vqav2"):
        (tmp_path / name).mkdir()
        texts = [{"user": "Left?", "assistant": name}]
        pq.write_table(pa.Table.from_pylist([{"texts": texts}]), tmp_path / name / "train-0.parquet")
        configs.append(f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train-*\n")
    with pytest.raises(UserError, match=r"ai2d is a folder, give it as path and leave config out"):
        read("cauldron", tmp_path, config="ai2d")
    (tmp_path / "README.md").write_text("---\nconfigs:\n" + "".join(configs) + "---\n")
    assert read("cauldron", tmp_path, config="ai2d")[0].messages[1]["content"] == "ai2d"
    with pytest.raises(UserError, match=r"Config name is missing.*'ai2d', 'vqav2'"):
        read("cauldron", tmp_path)
