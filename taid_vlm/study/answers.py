"""What students of the text settings write by themselves, and how much of it is said in the reference and by the teacher."""

from collections.abc import Sequence
from typing import Any

from taid_vlm.data import Record
from taid_vlm.models.generate import generate_answers
from taid_vlm.models.processor import Processor
from taid_vlm.models.student import Student

BATCH = 60
MAX_NEW_TOKENS = 24


def questions_of(records: Sequence[Record]) -> dict[str, list[str]]:
    """Replies by question."""
    found: dict[str, list[str]] = {}
    for record in records:
        question, reply = (str(message["content"]) for message in record.messages)
        found.setdefault(question, []).append(reply)
    return found


def greedy_answers(model: Student, processor: Processor, questions: Sequence[str]) -> list[str]:
    """One for each question, cut at 24 tokens."""
    found: list[str] = []
    for start in range(0, len(questions), BATCH):
        some: list[list[dict[str, Any]]] = [[{"role": "user", "content": q}] for q in questions[start : start + BATCH]]
        found += generate_answers(model, processor, some, [[] for _ in some], MAX_NEW_TOKENS)
    return found


def overlap(answers: Sequence[str], replies: Sequence[str | Sequence[str]]) -> float:
    """Mean ROUGE-L F-measure; of several replies the nearest counts."""
    from taid_vlm_eval.metrics.rouge import rouge_l

    return sum(rouge_l(a, reply) for a, reply in zip(answers, replies, strict=True)) / len(answers)
