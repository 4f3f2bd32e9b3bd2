"""Readers of data on disk, by name. Each takes (path, split) and returns items in a fixed order."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm_eval.data.item import SOURCES, Item, Source
from taid_vlm_eval.task import Data


def _require_split(split: str, known: tuple[str, ...], where: Path) -> None:
    if split not in known:
        raise UserError(f"unknown split {split!r} of {where}: {did_you_mean(split, known)}")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"no file at {path}; is this the right folder for this kind of data?")
    text = _read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error


def read_easy_vqa(root: Path, split: str) -> list[Item]:
    """The easy-vqa 1.0 package: ``easy_vqa/data/{train,test}/questions.json`` and ``images/<id>.png`` beside it.

    Questions are lists of [question, answer, image id]. The id of an item is "<split>-<position>".

    Raises:
        UserError: unknown split, missing file, malformed question, or an answer that ``answers.txt`` does not list.
    """
    _require_split(split, ("train", "test"), root)
    folder = root / "easy_vqa" / "data"
    questions = folder / split / "questions.json"
    rows = _read_json(questions)
    listed = folder / "answers.txt"
    if not listed.is_file():
        raise UserError(f"no file at {listed}; expected the list of all answers, one a line")
    if not isinstance(rows, list):
        raise UserError(f"{questions}: found {type(rows).__name__}, expected a list of questions")
    allowed = set(_read_text(listed).split())
    items = []
    for position, row in enumerate(rows):
        if not (isinstance(row, list) and len(row) == 3 and all(isinstance(one, str) for one in row[:2])):
            raise UserError(f"{questions}, entry {position}: found {row!r}, expected [question, answer, image id]")
        question, answer, image = row
        if answer not in allowed:
            raise UserError(f"{questions}, entry {position}: answer {answer!r} is not in {listed}")
        items.append(Item(f"{split}-{position}", question, answer, [folder / split / "images" / f"{image}.png"]))
    return items


def is_held_out(question: str) -> bool:
    """Whether a chatterbot exchange belongs to ``test``: SHA-256 of the question (UTF-8) as an integer, modulo 10, is 0."""
    return int(hashlib.sha256(question.encode()).hexdigest(), 16) % 10 == 0


def read_chatterbot(root: Path, split: str) -> list[Item]:
    """The chatterbot-corpus package: ``chatterbot_corpus/data/english/*.yml``, first two utterances of each conversation.

    Utterances are read as text whatever YAML would make of them ("no", "42"), and stripped. Exchanges with an empty side are
    dropped. Equal questions fall into the same split, see :func:`is_held_out`. The id of an item is "<file>-<position>".

    Raises:
        UserError: unknown split, no such files, or a file that is not laid out like this.
    """
    _require_split(split, ("train", "test"), root)
    folder = root / "chatterbot_corpus" / "data" / "english"
    paths = sorted(folder.glob("*.yml"))
    if not paths:
        raise UserError(f"no *.yml files in {folder}; is {root} an unpacked chatterbot-corpus?")
    items = []
    for path in paths:
        for position, (question, answer) in enumerate(_exchanges(path)):
            if question and answer and is_held_out(question) == (split == "test"):
                items.append(Item(f"{path.stem}-{position}", question, answer))
    return items


def _exchanges(path: Path) -> list[tuple[str, str]]:
    text = _read_text(path)
    try:
        # BaseLoader makes every scalar a string: no booleans, numbers or dates.
        content = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    conversations = content.get("conversations") if isinstance(content, dict) else None
    if not isinstance(conversations, list):
        raise UserError(f"{path}: expected a key 'conversations' with a list of lists of utterances")
    pairs = []
    for conversation in conversations:
        first_two = conversation[:2] if isinstance(conversation, list) else []
        texts = [one.strip() if isinstance(one, str) else "" for one in first_two] + ["", ""]
        pairs.append((texts[0], texts[1]))
    return pairs


def read_jsonl(path: Path, split: str) -> Iterator[Item]:
    """One JSON object a line: ``question``, ``answer`` (text, or a list of right texts), ``id``?, ``images``?, ``facts``?.

    ``path`` is the file, or a folder that holds ``<split>.jsonl``. Image paths are relative to the file. Without an id, the
    number of the line (from 0) is taken. ``facts`` is an object: see :class:`Item`. Blank lines are skipped. A line that is not such an object is an item that is broken.

    Raises:
        UserError: no such file, a key that is unknown, or no line that can be read; the message names the line.
    """
    file = path / f"{split}.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"no file at {file}; expected a .jsonl file, or a folder that holds {split}.jsonl")
    broken: list[Item] = []  # those before the first that can be read
    any_whole = False
    with file.open("rb") as opened:  # only line feeds end a line: others that Python knows may stand inside JSON texts
        for number, line in enumerate(opened):
            if not line.strip():
                continue
            item = _jsonl_item(line, number, file)
            any_whole = any_whole or not item.broken
            if not any_whole:
                broken.append(item)
                continue
            yield from broken
            broken.clear()
            yield item
    if broken:
        raise UserError(f"{broken[0].broken}; no line of {file} can be read")


_JSONL_KEYS = ("id", "question", "answer", "images", "facts")


def _jsonl_item(line: bytes, number: int, file: Path) -> Item:
    where, name = f"{file}, line {number + 1}", f"line {number + 1}"
    try:
        row = json.loads(line.decode())
        # Half a surrogate pair ("\\ud800") is no character: neither tokenizers nor files take it.
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        return Item(name, "", "", broken=f"{where} is not UTF-8 text (byte {error.start} of it)")
    except (ValueError, RecursionError) as error:
        return Item(name, "", "", broken=f"{where} is not valid JSON: {error}")
    if not isinstance(row, dict):
        found = f"{where}: found {type(row).__name__}, expected an object with question and answer"
        return Item(name, "", "", broken=found)
    for key in row:
        if key not in _JSONL_KEYS:
            raise UserError(f"{where}: unknown key {key!r}: {did_you_mean(key, _JSONL_KEYS)}")
    name = str(row.get("id", number))
    if wrong := _wrong_in(row):
        return Item(name, "", "", broken=f"{where}: {wrong}")
    images = [file.parent / image for image in row.get("images", [])]
    return Item(name, row["question"], row["answer"], images, facts=row.get("facts", {}))


def _wrong_in(row: dict[str, Any]) -> str:
    question, answer = row.get("question"), row.get("answer")
    images, facts = row.get("images", []), row.get("facts", {})
    if not isinstance(question, str):
        return f"question is {question!r}, expected text"
    if not (isinstance(answer, str) or (_is_texts(answer) and answer)):
        return f"answer is {answer!r}, expected text or a list of texts"
    if not _is_texts(images):
        return f"images is {images!r}, expected a list of paths relative to the file"
    if not isinstance(facts, dict):
        return f'facts is {facts!r}, expected an object, such as {{"category": "chart"}}'
    options = facts.get("options", {})
    if not isinstance(options, dict) or not _is_texts(list(options.values())):
        return f'facts.options is {options!r}, expected a text for each letter, such as {{"A": "a cat"}}'
    return ""


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _by_split(read: Callable[[Path, str], Iterable[Item]]) -> Source:
    """A reader whose files say everything: keys that only tables know are refused, not ignored."""

    def read_all(path: Path, data: Data) -> Iterable[Item]:
        for entry in fields(Data):
            unset = entry.default_factory() if entry.default_factory is not MISSING else entry.default
            if entry.name not in ("source", "path", "split") and getattr(data, entry.name) != unset:
                raise UserError(
                    f"data.{entry.name} is for tables (hub, tsv); data of the kind {data.source!r} has none"
                )
        return read(path, data.split)

    return read_all


SOURCES.register("easy_vqa")(_by_split(read_easy_vqa))
SOURCES.register("chatterbot")(_by_split(read_chatterbot))
SOURCES.register("jsonl")(_by_split(read_jsonl))
