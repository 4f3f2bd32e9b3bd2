"""Answers of several turns in the form of FastChat's judge: ``model_answer/<model>.jsonl``."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from taid_vlm.common.files import write_atomic
from taid_vlm_eval.answers import Answer
from taid_vlm_eval.data.item import Item


def turns_of(answer: str) -> list[str]:
    """The answers of a conversation, in order, from what the way of asking ``turns`` wrote; none when it is something else."""
    try:
        found = json.loads(answer)
    except ValueError:
        return []
    return [str(one) for one in found] if isinstance(found, list) else []


def write_model_answers(folder: Path, items: Sequence[Item], answers: Mapping[str, Answer]) -> Path:
    """Write ``<folder>/model_answer/<model>.jsonl`` without the items that have no answer; return its path.

    ``folder`` is that of the task's answers, ``<output>/mt_bench``; the model is called as the output folder is.
    """
    name = folder.resolve().parent.name
    lines = []
    for item in items:
        turns = turns_of(answers[item.id]["answer"])
        if turns:
            number = int(item.id) if item.id.isdecimal() else item.id
            one = hashlib.sha256(f"{name}\0{item.id}\0{turns}".encode(errors="surrogatepass")).hexdigest()[:22]
            row = {"question_id": number, "answer_id": one, "model_id": name, "choices": [{"index": 0, "turns": turns}]}
            lines.append(json.dumps(row) + "\n")
    path = folder / "model_answer" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join(lines))
    return path
