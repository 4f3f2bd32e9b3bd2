"""``taid-vlm answers``: a recipe's questions with the answers of its teacher, as a data set that others load."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import new_folder
from taid_vlm.common.progress import bar, waiting
from taid_vlm.data import Record, read_records
from taid_vlm.recipe import Recipe
from taid_vlm.training.answers_card import answers_card
from taid_vlm.training.placement import place_teacher
from taid_vlm.training.precision import DTYPES, choose_precision
from taid_vlm.training.teachers import open_teacher
from taid_vlm.training.written_answers import WrittenAnswers

ROWS = 1000  # records of a file; their pictures are in memory together


def write_answers(recipe: Recipe, folder: Path, say: Callable[[str], None]) -> int:
    """Write the training records whose last answer the teacher has written: Parquet files with their pictures, and a card.

    Answers that a run of the recipe has written are read from the cache folder, and those that are written here a run will read.

    Returns:
        How many records.

    Raises:
        UserError: the folder exists, there is no teacher that writes, no record has an answer, or anything in recipe and data that
            cannot work.
    """
    if folder.exists():
        raise UserError(f"{folder} exists; choose another folder")
    spec = recipe.teacher
    if spec is None or spec.placement in ("served", "sharded"):
        found = "has no teacher" if spec is None else f"has a teacher of placement {spec.placement}"
        raise UserError(f"the recipe {found}, and one is needed here that writes in this process: see docs/teachers.md")
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    precision = choose_precision(recipe.training.precision, accelerator.device)
    with waiting("loading the teacher"):
        teacher = open_teacher(recipe, cached=False)
    records = read_records(recipe.data.train, recipe.seed)
    place_teacher(teacher, spec, accelerator.device, say, DTYPES[precision])
    writes = WrittenAnswers(teacher, recipe.data.answer_tokens, precision, recipe.data.max_length)
    with bar("answers of the teacher") as progress:
        answered = writes.replaced(records, progress)
    for line in answered.told():
        say(line)
    # A record that is as it came has no answer of the teacher.
    own = set(map(id, records))
    written = [record for record in answered.records if id(record) not in own]
    if not written:
        raise UserError("no training record has an answer of the teacher, see above; nothing was written")
    with new_folder(folder) as temporary:
        _write(written, temporary)
        (temporary / "README.md").write_text(
            answers_card(recipe, folder.name, written, len(records), precision), encoding="utf-8"
        )
    return len(written)


def _write(records: list[Record], folder: Path) -> None:
    from datasets import Dataset, Features, Image, Value

    part = {"type": Value("string"), "text": Value("string")}
    columns: dict[str, Any] = {"messages": [{"role": Value("string"), "content": [part]}]}
    if any(record.images for record in records):
        columns["images"] = [Image()]
    (folder / "data").mkdir()
    files = range(0, len(records), ROWS)
    for number, start in enumerate(files):
        rows = Dataset.from_list(list(_rows(records[start : start + ROWS], columns)), features=Features(columns))
        rows.to_parquet(folder / "data" / f"train-{number:05d}-of-{len(files):05d}.parquet")


def _rows(records: list[Record], columns: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for record in records:
        row: dict[str, Any] = {"messages": [_message(message) for message in record.messages]}
        if "images" in columns:
            row["images"] = [{"bytes": picture.read_bytes(), "path": None} for picture in record.images]
        yield row


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """With a list of parts in each message: a column of a table has one type."""
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {"role": message["role"], "content": [{"type": part["type"], "text": part.get("text")} for part in parts]}
