"""Where conversations come from: one small reader per kind, registered under its exact name."""

import hashlib
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve
from taid_vlm.common.registry import Registry
from taid_vlm.data.record import Record
from taid_vlm.recipe.schema import DataSource

Reader = Callable[[Path, str], Iterable[Record]]
SOURCES: Registry[Reader] = Registry("data source")


def read_records(sources: list[DataSource], seed: int) -> list[Record]:
    """All records of all sources; a limit takes a random part that depends on ``seed`` alone.

    Raises:
        UserError: unknown kind, missing or malformed files, no records.
    """
    records: list[Record] = []
    for source in sources:
        read = SOURCES.get(source.kind)
        found = list(read(Path(resolve(source.path)).expanduser(), source.split))
        if not found:
            raise UserError(f"the source {source.kind} at {source.path} has no records in split {source.split!r}")
        if source.limit is not None and source.limit < len(found):
            chosen = sorted(random.Random(seed).sample(range(len(found)), source.limit))
            found = [found[i] for i in chosen]
        records += found
    return records


@SOURCES.register("easy_vqa")
def read_easy_vqa(root: Path, split: str) -> Iterable[Record]:
    """easy-VQA (github.com/vzhou842/easy-VQA): questions about one shape in a 64 x 64 picture."""
    folder = root / "easy_vqa" / "data" / split
    file = folder / "questions.json"
    if not file.is_file():
        raise UserError(f"easy-VQA questions not found: {file}; expected the unpacked package and split train or test")
    for index, (question, answer, image) in enumerate(json.loads(file.read_text())):
        parts = [{"type": "image"}, {"type": "text", "text": question}]
        messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
        yield Record(f"{file}#{index}", messages, (folder / "images" / f"{image}.png",))


@SOURCES.register("chatterbot")
def read_chatterbot(root: Path, split: str) -> Iterable[Record]:
    """chatterbot-corpus, English: short question-and-reply conversations.

    A tenth, chosen by the hash of its opening words, is the ``test`` split: an opening is never in both.
    """
    if split not in ("train", "test"):
        raise UserError(f"chatterbot has no split {split!r}: give train or test")
    folder = root / "chatterbot_corpus" / "data" / "english"
    files = sorted(folder.glob("*.yml"))
    if not files:
        raise UserError(f"chatterbot-corpus not found: no .yml files in {folder}")
    for file in files:
        # BaseLoader keeps 'yes', 'no' and numbers as the text they are.
        for index, turns in enumerate(
            yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)["conversations"]
        ):
            turns = [turn.strip() for turn in turns if isinstance(turn, str)]
            if len(turns) < 2 or not turns[0] or not turns[1]:
                continue
            held_out = int(hashlib.sha256(turns[0].encode()).hexdigest(), 16) % 10 == 0
            if held_out == (split == "test"):
                messages = [{"role": "user", "content": turns[0]}, {"role": "assistant", "content": turns[1]}]
                yield Record(f"{file}#{index}", messages)


@SOURCES.register("jsonl")
def read_jsonl(path: Path, split: str) -> Iterable[Record]:
    """One JSON object a line: ``messages``, ``images`` (paths relative to the file), ``id`` (optional).

    A folder is read as ``<folder>/<split>.jsonl``.
    """
    file = path / f"{split}.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"data file not found: {file}; expected one JSON object with messages (and images) a line")
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _jsonl_record(file, number, line)


def _jsonl_record(file: Path, number: int, line: bytes) -> Record:
    place = f"{file}:{number}"
    try:
        row: dict[str, Any] = json.loads(line.decode("utf-8"))
        messages = [{"role": m["role"], "content": _content(m["content"])} for m in row["messages"]]
        names = row.get("images") or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"images is {names!r}, not a list of paths")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{place}: not a conversation ({error}); expected {{"messages": [{{"role": ..., "content": ...}}, ...], "images": [...]}}'
        ) from error
    # An id of the file's own may come back in another file; the place does not.
    name = f"{place} (id {row['id']})" if "id" in row else place
    return Record(name, messages, tuple(file.parent / image for image in names))


def _content(content: Any) -> str | list[dict[str, Any]]:
    if content is None:
        return ""  # an answer that is not there; the sample is judged later
    if isinstance(content, str):
        return content
    for part in content:
        if part["type"] not in ("image", "text"):
            raise ValueError(f"a part of type {part['type']!r}, expected image or text")
        if part["type"] == "text" and not isinstance(part["text"], str):
            raise ValueError(f"text {part['text']!r} is not a string")
    return list(content)
