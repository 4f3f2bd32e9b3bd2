"""Two published sets that come inside Python packages."""

import hashlib
import json
from collections.abc import Iterator

import yaml

from taid_vlm.common.errors import UserError
from taid_vlm.data.record import Record
from taid_vlm.data.sources.mixing import SOURCES
from taid_vlm.data.sources.rows import local_path
from taid_vlm.recipe.data_spec import DataSource


@SOURCES.register("easy_vqa")
def read_easy_vqa(source: DataSource) -> Iterator[Record]:
    """easy-VQA (github.com/vzhou842/easy-VQA): questions about one shape in a 64 x 64 picture."""
    _no_columns(source)
    folder = local_path(source) / "easy_vqa" / "data" / source.split
    file = folder / "questions.json"
    if not file.is_file():
        raise UserError(f"easy-VQA questions not found: {file}; expected the unpacked package and split train or test")
    for index, (question, answer, image) in enumerate(json.loads(file.read_text())):
        parts = [{"type": "image"}, {"type": "text", "text": question}]
        messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
        yield Record(f"{file}#{index}", messages, (folder / "images" / f"{image}.png",))


@SOURCES.register("chatterbot")
def read_chatterbot(source: DataSource) -> Iterator[Record]:
    """chatterbot-corpus, English: short question-and-reply conversations.

    A tenth, chosen by the hash of its opening words, is the ``test`` split: an opening is never in both.
    """
    _no_columns(source)
    if source.split not in ("train", "test"):
        raise UserError(f"chatterbot has no split {source.split!r}: give train or test")
    folder = local_path(source) / "chatterbot_corpus" / "data" / "english"
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
            if held_out == (source.split == "test"):
                messages = [{"role": "user", "content": turns[0]}, {"role": "assistant", "content": turns[1]}]
                yield Record(f"{file}#{index}", messages)


def _no_columns(source: DataSource) -> None:
    if source.columns or source.streaming or source.image_mark or source.image_folder:
        raise UserError(
            f"a source of kind {source.kind} has a layout of its own; remove columns, image_folder, image_mark and streaming"
        )
