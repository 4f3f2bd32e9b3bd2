"""One made set of conversations, written in the format of every kind of source."""

import csv
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

WORDS = (
    "the a picture shows two small red blue dogs sitting on old wooden table near window with light from left and"
    " people walk along street where cars stand before shop sign says open how many what colour is it there are"
)


class Sample(NamedTuple):
    """A question about a photo, its answer, and the photo as JPEG."""

    question: str
    answer: str
    jpeg: bytes


def make_samples(count: int, size: tuple[int, int], seed: int = 0) -> list[Sample]:
    """Samples with photos of about the entropy of real ones: coarse shapes with a little noise."""
    draw = random.Random(seed)
    samples = []
    for _ in range(count):
        coarse = Image.frombytes("RGB", (16, 12), draw.randbytes(16 * 12 * 3)).resize(size, Image.Resampling.BICUBIC)
        noise = Image.effect_noise(size, 20).convert("RGB")
        stream = io.BytesIO()
        Image.blend(coarse, noise, 0.3).save(stream, "JPEG", quality=85)
        samples.append(Sample(_text(draw, 12), _text(draw, 30), stream.getvalue()))
    return samples


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(WORDS.split()) for _ in range(words)) + "."


def _parts(sample: Sample) -> list[dict[str, Any]]:
    question = [{"type": "image", "text": None}, {"type": "text", "text": sample.question}]
    answer = [{"type": "text", "text": sample.answer}]
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _turns(sample: Sample, mark: str = "") -> list[dict[str, str]]:
    return [{"role": "user", "content": mark + sample.question}, {"role": "assistant", "content": sample.answer}]


def _photos(samples: list[Sample], folder: Path) -> list[str]:
    folder.mkdir(parents=True)
    for index, sample in enumerate(samples):
        (folder / f"{index}.jpg").write_bytes(sample.jpeg)
    return [f"{index}.jpg" for index in range(len(samples))]


def _jsonl(samples: list[Sample], folder: Path) -> Path:
    names = _photos(samples, folder)
    rows = [{"messages": _parts(one), "images": [name]} for one, name in zip(samples, names, strict=True)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def _json(samples: list[Sample], folder: Path) -> Path:
    rows = []
    for sample, name in zip(samples, _photos(samples, folder), strict=True):
        human = {"from": "human", "value": f"<image>\n{sample.question}"}
        rows.append({"image": name, "conversations": [human, {"from": "gpt", "value": sample.answer}]})
    (folder / "train.json").write_text(json.dumps(rows))
    return folder


def _csv(samples: list[Sample], folder: Path) -> Path:
    names = _photos(samples, folder)
    with open(folder / "train.csv", "w", newline="") as file:
        rows = [(name, one.question, one.answer) for one, name in zip(samples, names, strict=True)]
        csv.writer(file).writerows([("image", "question", "answer"), *rows])
    return folder


def _shards(samples: list[Sample], folder: Path) -> Path:
    folder.mkdir(parents=True)
    with tarfile.open(folder / "train-0.tar", "w") as archive:
        for index, sample in enumerate(samples):
            for name, data in (("json", json.dumps({"messages": _parts(sample)}).encode()), ("jpg", sample.jpeg)):
                info = tarfile.TarInfo(f"{index:08}.{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return folder


def _table(row: Callable[[Sample], dict[str, Any]]) -> Callable[[list[Sample], Path], Path]:
    def write(samples: list[Sample], folder: Path) -> Path:
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row(sample) for sample in samples]), folder / "train.parquet")
        return folder / "train.parquet"

    return write


def _photo(sample: Sample) -> list[dict[str, Any]]:
    return [{"bytes": sample.jpeg, "path": None}]


def _saved(samples: list[Sample], folder: Path) -> Path:
    from datasets import Dataset

    rows = [{"messages": _parts(sample), "images": _photo(sample)} for sample in samples]
    Dataset.from_list(rows).save_to_disk(str(folder))
    return folder


def _text_files(samples: list[Sample], folder: Path) -> Path:
    folder.mkdir(parents=True)
    rows = [json.dumps({"text": f"{sample.question} {sample.answer}"}) for sample in samples]
    (folder / "train.jsonl").write_text("\n".join(rows))
    return folder


def _easy_vqa(samples: list[Sample], folder: Path) -> Path:
    inside = folder / "easy_vqa" / "data" / "train"
    (inside / "images").mkdir(parents=True)
    for index, sample in enumerate(samples):
        with Image.open(io.BytesIO(sample.jpeg)) as photo:
            photo.resize((64, 64)).save(inside / "images" / f"{index}.png")
    (inside / "questions.json").write_text(json.dumps([[one.question, one.answer, i] for i, one in enumerate(samples)]))
    return folder


def _chatterbot(samples: list[Sample], folder: Path) -> Path:
    inside = folder / "chatterbot_corpus" / "data" / "english"
    inside.mkdir(parents=True)
    (inside / "made.yml").write_text(yaml.safe_dump({"conversations": [[one.question, one.answer] for one in samples]}))
    return folder


WRITERS: dict[str, Callable[[list[Sample], Path], Path]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _csv,
    "webdataset": _shards,
    "parquet": _table(lambda one: {"messages": _parts(one), "images": _photo(one)}),
    "huggingface": _saved,
    "mantis": _table(lambda one: {"conversation": _turns(one, "<image>"), "images": _photo(one)}),
    "cauldron": _table(lambda one: {"texts": [{"user": one.question, "assistant": one.answer}], "images": _photo(one)}),
    "ultrachat": _table(lambda one: {"prompt": one.question, "messages": _turns(one)}),
    "text": _text_files,
    "easy_vqa": _easy_vqa,
    "chatterbot": _chatterbot,
}
