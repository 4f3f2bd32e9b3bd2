"""A few records of each data set that the shipped recipes name, in the files and columns in which it is on the hub."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.tiny.sources import png

WORDS = ["the cat", "a mat", "the answer", "an answer to a cat", "user"]
SIZE = 3  # pictures that ``png`` knows


def _write(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")


def write_ultrachat(root: Path) -> None:
    """UltraChat 200k: two questions and answers each; one conversation ends with a question, one has a system prompt."""
    for split, count in (("train_sft", 8), ("test_sft", 4)):
        rows = []
        for index in range(count):
            said = [f"What is {WORDS[index % 5]}?", f"It is the cat\n\nof {index}.", "And then?", "It sits on the mat."]
            turns = zip(("user", "assistant") * 2, said, strict=True)
            messages = [{"content": text, "role": role} for role, text in turns]
            if index == 1:
                messages.insert(0, {"content": "Be short.", "role": "system"})
            rows.append({"prompt": said[0], "prompt_id": f"{index:064x}", "messages": messages})
        _write(root / "data", split, rows)


def write_smollm_corpus(root: Path) -> None:
    """SmolLM-Corpus: the two parts that have text; a tenth of 40 documents is four."""
    for config, column in (("cosmopedia-v2", "prompt"), ("fineweb-edu-dedup", "id")):
        rows = [
            {"text": f"The cat of {WORDS[index % 5]} is {index}. " * (1 + 20 * (index % 3)), column: str(index)}
            for index in range(40)
        ]
        _write(root / config, "train", rows)


def write_mantis_instruct(root: Path, pictures: Path, configs: list[str]) -> None:
    """Mantis-Instruct: the tables have paths; the pictures lie in ``pictures``/CONFIG, as they come out of its archives."""
    for config in configs:
        (pictures / config / "images").mkdir(parents=True)
        rows = []
        for index in range(4):
            count = 1 + index % 2
            paths = [f"images/{index}-{place}.png" for place in range(count)]
            for place, path in enumerate(paths):
                (pictures / config / path).write_bytes(png((index + place) % SIZE))
            asked = "<image>" * count + f" What is {index}?"
            talk = [{"role": "user", "content": asked}, {"role": "assistant", "content": "the cat on a mat"}]
            talk += [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "An answer."}]
            rows.append(
                {
                    "id": f"{config}_{index}",
                    "images": [{"bytes": None, "path": path} for path in paths],
                    "conversation": talk,
                    "source": config,
                }
            )
        _write(root / config, "train", rows)


def write_the_cauldron(root: Path, configs: list[str]) -> None:
    """The Cauldron: pictures in the tables, several questions about them."""
    for config in configs:
        rows = []
        for index in range(4):
            images = [{"bytes": png((index + place) % SIZE), "path": None} for place in range(1 + index % 2)]
            texts = [
                {"user": f"What is {word}?\nAnswer briefly.", "assistant": f"the {word}.", "source": config}
                for word in WORDS[index : index + 2]
            ]
            rows.append({"images": images, "texts": texts})
        _write(root / config, "train", rows)
