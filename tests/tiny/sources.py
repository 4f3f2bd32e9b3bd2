"""The same few conversations in the file format of every kind of source."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COLOURS = ((220, 30, 30), (30, 30, 220), (30, 200, 30))
IMAGE = {"type": "image"}


def png(index: int) -> bytes:
    """A picture of its own size and colour."""
    stream = io.BytesIO()
    Image.new("RGB", (8 + index, 6), COLOURS[index]).save(stream, "PNG")
    return stream.getvalue()


def words(text: str) -> dict[str, str]:
    """A text part."""
    return {"type": "text", "text": text}


# (messages, indices of pictures)
CONVERSATIONS: list[tuple[list[dict[str, Any]], list[int]]] = [
    (
        [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Hello ünïcode 你好?"},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Quite."},
        ],
        [],
    ),
    ([{"role": "user", "content": [IMAGE, words("What colour?")]}, {"role": "assistant", "content": "Red."}], [0]),
    (
        [
            {"role": "user", "content": [words("Compare "), IMAGE, words(" with "), IMAGE, words(", please.")]},
            {"role": "assistant", "content": "The second is blue."},
            {"role": "user", "content": [words("And "), IMAGE]},
            {"role": "assistant", "content": "Green."},
        ],
        [0, 1, 2],
    ),
    ([{"role": "user", "content": "No picture."}, {"role": "assistant", "content": "None."}], []),
]


def with_marks(content: Any, mark: str = "<image>") -> str:
    """Content as text, with a mark for each picture."""
    if isinstance(content, str):
        return content
    return "".join(mark if part["type"] == "image" else part["text"] for part in content)


def as_parts(content: Any) -> list[dict[str, Any]]:
    """Content as parts of one struct type, as tables hold it."""
    parts = [words(content)] if isinstance(content, str) else content
    return [{"type": part["type"], "text": part.get("text")} for part in parts]


def _files(folder: Path) -> None:
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for index in range(len(COLOURS)):
        (folder / "pictures" / f"{index}.png").write_bytes(png(index))


def write_jsonl(folder: Path) -> Path:
    """Messages and paths, a line each."""
    _files(folder)
    rows = [{"messages": m, "images": [f"pictures/{i}.png" for i in images]} for m, images in CONVERSATIONS]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder / "train.jsonl"


def write_json(folder: Path) -> Path:
    """LLaVA's format: one picture is a string, no picture is no key."""
    _files(folder)
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    rows: list[dict[str, Any]] = []
    for index, (messages, images) in enumerate(CONVERSATIONS):
        turns = [{"from": names[m["role"]], "value": with_marks(m["content"])} for m in messages]
        row: dict[str, Any] = {"id": f"{index:03}", "conversations": turns}
        paths = [f"{i}.png" for i in images]
        if paths:
            row["image"] = paths if len(paths) > 1 else paths[0]
        rows.append(row)
    (folder / "train.json").write_text(json.dumps(rows))
    return folder / "train.json"


def table_rows() -> list[dict[str, Any]]:
    """Messages of parts, and pictures as ``{bytes, path}``."""
    return [
        {
            "messages": [{"role": m["role"], "content": as_parts(m["content"])} for m in messages],
            "images": [{"bytes": png(i), "path": f"{i}.png"} for i in images],
        }
        for messages, images in CONVERSATIONS
    ]


def write_parquet(folder: Path) -> Path:
    """Two files, as a hub data set has them."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(table_rows())
    for part, (start, size) in enumerate(((0, 2), (2, 2))):
        pq.write_table(table.slice(start, size), folder / f"train-{part:05}-of-00002.parquet")
    return folder


def write_saved(folder: Path) -> Path:
    """``save_to_disk`` of a data set with an image feature."""
    from datasets import Dataset, DatasetDict, Features, List, Value
    from datasets import Image as ImageFeature

    part = {"type": Value("string"), "text": Value("string")}
    features = Features(
        {
            "messages": List({"role": Value("string"), "content": List(part)}),
            "images": List(ImageFeature()),
        }
    )
    DatasetDict({"train": Dataset.from_list(table_rows(), features=features)}).save_to_disk(str(folder))
    return folder


def write_shards(folder: Path) -> Path:
    """Two shards; returns their pattern."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(2):
        with tarfile.open(folder / f"train-{shard:02}.tar", "w") as archive:
            for index in (2 * shard, 2 * shard + 1):
                messages, images = CONVERSATIONS[index]
                add_member(archive, f"{index:06}.json", json.dumps({"messages": messages}).encode())
                for place, picture in enumerate(images):
                    add_member(archive, f"{index:06}.{place}.png", png(picture))
    return folder / "train-{00..01}.tar"


def add_member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """A file of an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def write_mantis(folder: Path) -> Path:
    """Mantis-Instruct: columns id, images, conversation."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "id": f"m_{index}",
            "images": [{"bytes": png(i), "path": None} for i in images],
            "conversation": [{"role": m["role"], "content": with_marks(m["content"])} for m in messages],
        }
        for index, (messages, images) in enumerate(CONVERSATIONS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    return folder / "train.parquet"


# Kind of source, how its files are written, and what the recipe must say besides.
WRITERS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "jsonl": (write_jsonl, {}),
    "json": (write_json, {"image_folder": "pictures"}),
    "parquet": (write_parquet, {}),
    "huggingface": (write_saved, {}),
    "webdataset": (write_shards, {}),
    "mantis": (write_mantis, {}),
}
