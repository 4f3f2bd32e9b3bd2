"""Items of a task: found, put into order, cut to a limit, grouped into clusters, and fingerprinted."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from taid_vlm.common.errors import UserError
from taid_vlm_eval.arrays import Integers
from taid_vlm_eval.data.hub import data_set_folder
from taid_vlm_eval.data.item import SOURCES, Item
from taid_vlm_eval.data.mt_bench import question_file
from taid_vlm_eval.data.sources import read_chatterbot, read_easy_vqa, read_jsonl
from taid_vlm_eval.data.spool import Spool
from taid_vlm_eval.data.table import ItemTable
from taid_vlm_eval.data.tables import read_hub, read_tsv, tsv_file
from taid_vlm_eval.marks import Places
from taid_vlm_eval.task import TaskFile

__all__ = [
    "SOURCES",
    "Item",
    "ItemTable",
    "data_folder",
    "fingerprint",
    "load_items",
    "read_chatterbot",
    "read_easy_vqa",
    "read_hub",
    "read_jsonl",
    "read_tsv",
    "require_limit",
    "subset",
]


def data_folder(task_file: TaskFile) -> Path:
    """The file or folder a task reads: an asset of the cache, an absolute path, or one beside the task's file.

    Of the source ``hub`` see :func:`data_set_folder`, of ``tsv`` see :func:`tsv_file`, of ``mt_bench`` see :func:`question_file`.

    Raises:
        UserError: unknown asset, or nothing at the path.
    """
    from taid_vlm.common.assets import PREFIX
    from taid_vlm.common.paths import resolve

    written = task_file.task.data.path
    if written.startswith(PREFIX):
        return Path(resolve(written))
    finder = {"hub": data_set_folder, "tsv": tsv_file, "mt_bench": question_file}.get(task_file.task.data.source)
    if finder is not None:
        try:
            return finder(task_file.task.data, task_file.folder)
        except UserError as error:
            raise UserError(f"task {task_file.task.name!r}: {error}") from None
    path = task_file.folder / Path(written).expanduser()
    if not path.exists():
        raise UserError(
            f"task {task_file.task.name!r}: no data at {path}; put it there or change data.path of the task"
        )
    return path


def load_items(task_file: TaskFile, *, limit: int | None = None, seed: int = 0) -> ItemTable:
    """All items of a task, or ``limit`` of them (see :func:`subset`), with the clusters the task asks for, as a list on disk.

    Raises:
        UserError: data missing, malformed or empty; two items with one id; a limit below 1.
    """
    task = task_file.task
    place = data_folder(task_file)
    items = Spool(SOURCES.get(task.data.source)(place, task.data))
    if not items:
        raise UserError(f"task {task.name!r}: split {task.data.split!r} of {place} holds no items")
    repeated = Places(item.id for item in items).repeated
    if repeated is not None:
        raise UserError(
            f"task {task.name!r}: two items have the id {items[repeated].id!r}; answers could not be told apart"
        )
    return ItemTable(items, task.cluster, _chosen((item.id for item in items), limit, seed))


def require_limit(limit: int | None) -> None:
    """Refuse a limit below 1."""
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit}, expected 1 or more; leave it out to take every item")


def subset(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """``limit`` items in their original order, the same ones on every machine.

    Ids are shuffled by sorting them by the SHA-256 of "seed:id"; the first ``limit`` are kept. So the choice depends on
    nothing but seed and ids, and a smaller limit chooses a part of what a larger one chooses.
    """
    chosen = _chosen((item.id for item in items), limit, seed)
    return list(items) if chosen is None else [items[place] for place in chosen]


def _chosen(ids: Iterable[str], limit: int | None, seed: int) -> Integers | None:
    """The places of a subset, rising; None for all."""
    require_limit(limit)
    if limit is None:
        return None
    digests = bytearray().join(hashlib.sha256(f"{seed}:{one}".encode()).digest() for one in ids)
    words_4N = np.frombuffer(digests, dtype=">u8").reshape(-1, 4).T
    shuffled_N = np.lexsort(words_4N[::-1])
    return np.sort(shuffled_N[:limit]).astype(np.int32)


def fingerprint(items: Sequence[Item]) -> str:
    """SHA-256 over ids, questions, answers, facts (options, categories, ...) and the bytes of the images, in order; paths do not count."""
    pictures = ItemTable.of(items).pictures
    total = hashlib.sha256()

    def add(*texts: str) -> None:
        # Lengths first, so that no two lists of texts run together to the same bytes.
        for text in (str(len(texts)), *texts):
            raw = text.encode("utf-8", errors="surrogatepass")
            total.update(len(raw).to_bytes(8, "little") + raw)

    for place, item in enumerate(items):
        add(item.id, item.question)
        add(*([item.answer] if isinstance(item.answer, str) else item.answer))
        add(*pictures.digests(place, item.images))
        if item.facts:
            add(json.dumps(item.facts, sort_keys=True, default=str))
    return total.hexdigest()
