"""The kinds of sources, by name: where rows come from, and what they hold by default."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from taid_vlm.common.errors import UserError
from taid_vlm.data.record import Record
from taid_vlm.data.sources.conversation import Format, records_of
from taid_vlm.data.sources.csv_file import csv_rows
from taid_vlm.data.sources.files import FILES, json_rows, jsonl_rows
from taid_vlm.data.sources.layout import Layout, layout_of
from taid_vlm.data.sources.mixing import SOURCES
from taid_vlm.data.sources.rows import Row, local_path
from taid_vlm.data.sources.shards import shard_rows
from taid_vlm.data.sources.tables import huggingface_rows, parquet_rows
from taid_vlm.data.sources.turns import pairs_of
from taid_vlm.recipe.data_spec import DataSource

Rows = Callable[[DataSource, Layout], Iterator[Row]]
MESSAGES = {"messages": "messages", "images": "images"}


def any_rows(source: DataSource, layout: Layout) -> Iterator[Row]:
    """A file by its extension, a folder with ``<split>.jsonl`` or texts, or a Hugging Face data set.

    Raises:
        UserError: nothing of this is there.
    """
    path = local_path(source)
    if source.streaming:
        return huggingface_rows(source, layout)
    if path.is_dir() and (path / f"{source.split}.jsonl").is_file():
        return jsonl_rows(source, layout)
    if path.is_dir() and "text" in layout.columns and any(path.rglob("*.txt")):
        return FILES[".txt"](source, layout)
    if path.suffix == ".parquet":
        return parquet_rows(source, layout)
    if path.is_file() and path.suffix not in FILES:
        raise UserError(f"cannot tell what {path} is: its name ends in none of .parquet, {', '.join(FILES)}")
    if path.suffix in FILES:
        if path.suffix == ".txt" and "text" not in layout.columns:
            raise UserError(f"{path} is plain text, and kind {source.kind} holds conversations; use kind: text")
        return FILES[path.suffix](source, layout)
    return huggingface_rows(source, layout)


def _register(kind: str, rows: Rows, columns: Mapping[str, str], form: Format = Format()) -> None:
    @SOURCES.register(kind)
    def read(source: DataSource) -> Iterator[Record]:
        if source.streaming and rows not in (huggingface_rows, any_rows):
            raise UserError(f"streaming is for hub data sets; a source of kind {kind} is read from files")
        layout = layout_of(source, columns)
        own = form if source.image_mark is None else replace(form, mark=source.image_mark, first=False)
        return records_of(rows(source, layout), layout, own)


_register("jsonl", jsonl_rows, MESSAGES)
# LLaVA's files (github.com/haotian-liu/LLaVA, docs/Finetune_Custom_Data.md).
_register("json", json_rows, {"messages": "conversations", "images": "image"}, Format(mark="<image>"))
_register("parquet", parquet_rows, MESSAGES)
_register("huggingface", huggingface_rows, MESSAGES)
_register("webdataset", shard_rows, MESSAGES)
_register("csv", csv_rows, {"images": "image", "question": "question", "answer": "answer"})
# Mantis-Instruct (arXiv:2405.01483): several pictures, each where its mark is.
_register("mantis", any_rows, {"messages": "conversation", "images": "images"}, Format(mark="<image>"))
# UltraChat 200k (arXiv:2310.16944): conversations without pictures.
_register("ultrachat", any_rows, {"messages": "messages"})
# The Cauldron (arXiv:2405.02246) and FineVision: pictures first, then questions and answers about them.
_register("cauldron", any_rows, {"messages": "texts", "images": "images"}, Format(turns=pairs_of, first=True))
# Documents for continued pre-training.
_register("text", any_rows, {"text": "text"})
