"""Many questions about few pictures, from easy-VQA's test split: as a task of ours, and as one of lmms-eval."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from taid_vlm.common.assets import asset_path

NAME, NEW_TOKENS = "many_questions", 8
UTILS = '''"""Column names of this set, for lmms-eval."""


def visual(doc):
    return [doc["image"].convert("RGB")]


def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def right(doc, results):
    return {"right": float(results[0].strip().lower() == doc["answer"])}
'''


def make_set(folder: Path, pictures: int, questions: int) -> tuple[Path, Path]:
    """Write the first ``pictures`` that have so many questions, with that many of them.

    Returns:
        The task file of ours, and the folder with lmms-eval's.
    """
    root = asset_path("easy-vqa") / "easy_vqa" / "data" / "test"
    asked: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for question, answer, picture in json.loads((root / "questions.json").read_text()):
        asked[picture].append((question, answer))
    chosen = [picture for picture in sorted(asked) if len(asked[picture]) >= questions][:pictures]
    rows = [
        {
            "id": f"{picture}-{number}",
            "question": question,
            "answer": answer,
            "image": root / "images" / f"{picture}.png",
        }
        for picture in chosen
        for number, (question, answer) in enumerate(asked[picture][:questions])
    ]
    return _ours(folder / "ours", rows), _of_lmms_eval(folder / "lmms", rows)


def _ours(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    lines = []
    for row in rows:
        shown = folder / row["image"].name
        shown.write_bytes(row["image"].read_bytes())
        lines.append(json.dumps({**{key: row[key] for key in ("id", "question", "answer")}, "images": [shown.name]}))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    task = {
        "name": NAME,
        "description": "easy-VQA, many questions about each picture",
        "data": {"source": "jsonl", "path": "rows.jsonl"},
        "generation": {"max_new_tokens": NEW_TOKENS},
        "scorer": "exact_match",
        "metric": "accuracy",
        "cluster": "image",
    }
    path = folder / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(task))
    return path


def _of_lmms_eval(folder: Path, rows: list[dict[str, Any]]) -> Path:
    import datasets

    folder.mkdir(parents=True)
    columns: dict[str, list[Any]] = {key: [row[key] for row in rows] for key in ("id", "question", "answer")}
    columns["image"] = [Image.open(row["image"]).convert("RGB") for row in rows]
    features = datasets.Features(
        {**dict.fromkeys(("id", "question", "answer"), datasets.Value("string")), "image": datasets.Image()}
    )
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(folder / "rows.parquet"))
    (folder / "utils.py").write_text(UTILS)
    (folder / f"{NAME}.yaml").write_text(
        f"""task: {NAME}
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {folder / "rows.parquet"}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
process_results: !function utils.right
generation_kwargs:
  max_new_tokens: {NEW_TOKENS}
  temperature: 0
  do_sample: false
metric_list:
  - metric: right
    aggregation: mean
    higher_is_better: true
"""
    )
    return folder
