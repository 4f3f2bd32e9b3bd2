"""The records of ``benchmarks.py`` as files: parquet in the folders of the hub, and VLMEvalKit's TSV."""

import base64
import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.tiny.benchmarks import PARQUET, Rows, png

TSV = {
    "mmbench_v11": "MMBench_TEST_EN_V11.tsv",
    "mmbench_v11_cn": "MMBench_TEST_CN_V11.tsv",
    "mmbench_v11_dev": "MMBench_DEV_EN_V11.tsv",
    "mmbench_dev": "MMBench_DEV_EN.tsv",
}
# Two questions in two rotations each; a rotation points to the row that holds the picture.
MMBENCH: Rows = [
    {
        "index": "3",
        "image": 3,
        "question": "What is it, 0?",
        "hint": "It is\tbig.",
        "A": "red",
        "B": "blue",
        "answer": "A",
    },
    {
        "index": "1000003",
        "image": "3",
        "question": "What is it, 1?",
        "hint": "nan",
        "A": "blue",
        "B": "red",
        "answer": "B",
    },
    {"index": "1000004", "image": "4", "question": "What is it, 2?", "A": "no", "B": "3", "C": "5", "answer": "C"},
    {"index": "4", "image": 4, "question": "What is it, 3?", "A": "5", "B": "no", "C": '"3"', "answer": "A"},
]

CARD = "---\nconfigs:\n- config_name: val\n  data_files:\n  - split: val\n    path: mmstar.parquet\n---\n# MMStar\n"


def write_benchmark(task: str, folder: Path) -> None:
    """The files of a task below ``folder``, where data sets that were laid by hand are looked for."""
    for name, rows in PARQUET.get(task, {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    if task == "mmstar":
        (folder / "Lin-Chen" / "MMStar" / "README.md").write_text(CARD)
    if task in TSV:
        folder.mkdir(parents=True, exist_ok=True)
        write_tsv(folder / TSV[task], MMBENCH)


def write_tsv(path: Path, rows: Rows) -> None:
    """Rows as VLMEvalKit writes them; a number in ``image`` is a picture."""
    names = ["index", "image", "question", "hint", "A", "B", "C", "D", "answer", "category", "l2-category"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(names)
        for row in rows:
            cell = row.get("image")
            image = base64.b64encode(png(cell)).decode() if isinstance(cell, int) else cell
            usual = {"category": "logic", "l2-category": "reasoning", **row, "image": image}
            writer.writerow([usual.get(name, "") for name in names])
