"""The text of the study: short exchanges of chatterbot-corpus, each question in one split."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.files import new_folder
from taid_vlm.data import read_records
from taid_vlm.recipe.schema import DataSource

VERSION = 1
MOST_WORDS = 20
Exchange = tuple[str, str]


def split_of(question: str) -> str:
    """By the hash of the question: a tenth for validation, two tenths for testing; a question is never in two splits."""
    bucket = int(hashlib.sha256(question.encode()).hexdigest(), 16) % 10
    return {0: "test", 1: "validation", 5: "test"}.get(bucket, "train")


def talk_folder() -> Path:
    """The folder with ``<split>.jsonl``, in the cache; written when it is not there."""
    folder = cache_folder() / "study" / f"talk-{VERSION}"
    if not folder.is_dir():
        with new_folder(folder) as temporary:
            for split, exchanges in by_split(corpus()).items():
                write_exchanges(temporary / f"{split}.jsonl", exchanges)
    return folder


def by_split(exchanges: Iterable[Exchange]) -> dict[str, list[Exchange]]:
    """Exchanges of no more than 20 words in the answer, each once."""
    found: dict[str, list[Exchange]] = {"train": [], "validation": [], "test": []}
    for question, answer in dict.fromkeys(exchanges):
        if len(answer.split()) <= MOST_WORDS and len(question.split()) <= MOST_WORDS:
            found[split_of(question)].append((question, answer))
    return found


def write_exchanges(file: Path, exchanges: Sequence[Exchange]) -> None:
    """As a source of kind jsonl."""
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in exchanges
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def corpus() -> Iterable[Exchange]:
    sources = [
        DataSource(kind="chatterbot", path="asset:chatterbot-corpus", split=split) for split in ("train", "test")
    ]
    for record in read_records(sources, 0):
        question, answer = (message["content"] for message in record.messages)
        yield question, answer
