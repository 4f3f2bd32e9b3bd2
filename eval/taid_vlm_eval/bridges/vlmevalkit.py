"""Our answers as a file of predictions of VLMEvalKit, so that ``vlmutil eval FILE`` scores them by its own rules.

The file is a TSV named ``{model}_{dataset}.tsv``: the columns of its data without the pictures, and ``prediction``. Cells are quoted, so
tabs, line ends and quotes in them stand as they are. It is read with pandas, for which some whole cells mean that there is nothing.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm.common.paths import resolve
from taid_vlm_eval.answers import Answer, read_answers
from taid_vlm_eval.data import Item, data_folder, fingerprint, load_items
from taid_vlm_eval.data.rows import csv_rows
from taid_vlm_eval.protocols import DEFAULT, PROTOCOLS, load_protocol, with_data
from taid_vlm_eval.task import Data, TaskFile
from taid_vlm_eval.task_files import load_task

FAILED = "Failed to obtain answer"  # what VLMEvalKit looks for
PICTURES = ("image", "image_path")
# Whole cells that pandas reads as nothing.
NOTHING = {
    "",
    "None",
    "null",
    "NULL",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "#N/A N/A",
    "#NA",
    "<NA>",
    "nan",
    "-nan",
    "NaN",
    "-NaN",
}
NOTHING |= {"1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}
TEXT_ANSWERS = ("answer", "letters")  # ways of asking whose answers are texts that the harness can read


@dataclass(frozen=True)
class Written:
    """The file, how many predictions it has, and what a reader should know of them."""

    path: Path
    count: int
    notes: list[str]


def write_predictions(
    folder: str | Path,
    task: str,
    out: str | Path,
    *,
    dataset: str | None = None,
    model: str | None = None,
    data: str | Path | None = None,
    tasks_folders: Sequence[str | Path] = (),
) -> Written:
    """Write the predictions of one task of an evaluation.

    Args:
        folder: what ``taid-vlm eval`` wrote.
        out: folder to write to.
        dataset: its name in VLMEvalKit; by default the one that our protocols name for the task, or the name of its TSV file.
        model: its name in the file's; by default that of the evaluation's folder.
        data: the TSV file that VLMEvalKit has for the data set; questions are looked up in it and columns taken from it. By default
            the task's own, where it is such a file.

    Raises:
        UserError: an evaluation that is broken, unfinished or of other data; answers that are no texts; no name known for the data set;
            a record that ``data`` does not have or asks otherwise.
    """
    where = Path(resolve(str(folder)))
    task_file, items, answers = _evaluated(where, load_task(task, tasks_folders))
    if data is None and task_file.task.data.source == "tsv":
        data = data_folder(task_file)
    name = dataset or _dataset(task_file, data)
    notes = []
    if data is not None:
        rows = _rows_of_file(items, Path(data))
    else:
        rows = [_row_of(item, task_file.task.data) for item in items]
        if "id" not in task_file.task.data.columns:
            notes.append(
                "index is the number of the record, since the data has none; --data FILE checks it against VLMEvalKit's"
            )
    failed = 0
    for row, item in zip(rows, items, strict=True):
        answer = answers[item.id]
        failed += answer["error"] is not None
        row["prediction"] = answer["answer"] if answer["error"] is None else FAILED
    if failed:
        notes.append(f"{failed} have no answer, and say {FAILED!r}")
    if lost := sum(row["prediction"] in NOTHING for row in rows):
        notes.append(f"{lost} are empty or words such as 'None' and 'NA', which pandas reads as nothing")
    if not rows:
        raise UserError(f"task {task!r} has no items in {where}")
    path = Path(out) / f"{model or where.name}_{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, as_tsv(rows))
    return Written(path, len(rows), notes)


def as_tsv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as text: every column that any row has, in the order they are met, ``prediction`` last; all cells quoted."""
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name != "prediction"]
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow([*columns, "prediction"])
    writer.writerows([_cell(row.get(name)) for name in (*columns, "prediction")] for row in rows)
    return stream.getvalue()


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    # Neither a null character nor half a surrogate pair survives the reader.
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


def _evaluated(folder: Path, task_file: TaskFile) -> tuple[TaskFile, Sequence[Item], dict[str, Answer]]:
    path = folder / f"{task_file.task.name}.answers.jsonl"
    header, answers, _ = read_answers(path)
    if header is None:
        raise UserError(f"no answers at {path}; expected the folder that taid-vlm eval wrote, and a task in it")
    asks = header["prompt"].get("asks", "answer")
    if asks not in TEXT_ANSWERS:
        raise UserError(f"the answers at {path} are {asks}, not texts; VLMEvalKit reads answers as texts")
    task_file = with_data(task_file, header["prompt"].get("style", {}).get("protocol") or DEFAULT)
    items = load_items(task_file, limit=header["limit"], seed=header["seed"])
    if fingerprint(items) != header["data_fingerprint"]:
        raise UserError(
            f"the data here is not that of the answers at {path} (SHA-256 differs); put the same data in place"
        )
    if missing := [item.id for item in items if item.id not in answers]:
        raise UserError(f"{path} lacks the answers to {len(missing)} of {len(items)} items; finish the evaluation")
    return task_file, items, answers


def _dataset(task_file: TaskFile, data: str | Path | None) -> str:
    if data is not None:
        return Path(data).stem
    for protocol in PROTOCOLS:
        if protocol != DEFAULT and (known := load_protocol(protocol).tasks.get(task_file.task.name)):
            return known.dataset
    raise UserError(f"how VLMEvalKit calls the data of {task_file.task.name!r} is unknown; say it by --dataset")


def _row_of(item: Item, data: Data) -> dict[str, Any]:
    """Columns are called as in the data."""
    row: dict[str, Any] = {"index": item.id, "question": item.bare or item.question}
    if item.hint:
        row["hint"] = item.hint
    row |= {**item.facts.get("options", {}), "answer": item.answer}
    for key, value in item.facts.items():
        column = data.columns.get(key)
        if key != "options" and isinstance(column, str) and column not in row:
            row[column] = value if isinstance(value, str | int | float) else json.dumps(value, default=str)
    return {**row, "split": row.get("split", data.split)}


def _rows_of_file(items: Sequence[Item], path: Path) -> list[dict[str, Any]]:
    by_index = {str(row.get("index")): row for row in _without_pictures(path)}
    rows = []
    for item in items:
        row = by_index.get(item.id)
        if row is None:
            raise UserError(f"{path} has no record with the index {item.id!r}, which task and answers have")
        if not _asks_the_same(item, str(row["question"])):
            raise UserError(
                f"{path} asks otherwise in the record {item.id!r}: {str(row['question'])[:80]!r} there, "
                f"{(item.bare or item.question)[:80]!r} in the task; the indices are not those of VLMEvalKit"
            )
        rows.append(row)
    return rows


def _asks_the_same(item: Item, question: str) -> bool:
    """Whether the file's question is in the task's; white space, capitals and the options that some data sets put behind do not count."""
    ours, theirs = ("".join(text.split()).lower() for text in (item.bare or item.question, question))
    return bool(theirs) and (theirs in ours or ours in theirs) if ours else not theirs


def _without_pictures(path: Path) -> Iterator[dict[str, Any]]:
    for row in csv_rows(path):
        yield {name: cell for name, cell in row.items() if name not in PICTURES}
