"""From answers to scored items: thinking is taken out, then the task's scorer reads what is left."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from taid_vlm_eval.answers import Answer
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.metrics import METRICS, SCORERS, Scored, Scorer
from taid_vlm_eval.metrics.aggregate import Metric
from taid_vlm_eval.task import Task

_TAGS = re.compile(r"(</?think>)")


def spoken(answer: str) -> str:
    """The answer without what stands between ``<think>`` and ``</think>``; one without these tags is returned as it is.

    A thought without an end (the tokens ran out) reaches to the end of the text. One without a start began in the prompt, as
    some chat templates have it, so all before it goes.
    """
    if "<think>" not in answer and "</think>" not in answer:
        return answer
    kept: list[str] = []
    thinking = False
    for part in _TAGS.split(answer):
        if part == "<think>":
            thinking = True
        elif part == "</think>":
            if not thinking:
                kept.clear()
            thinking = False
        elif not thinking:
            kept.append(part)
    return "".join(kept).strip()


def score_items(
    task: Task, items: Sequence[Item], answers: Mapping[str, Answer]
) -> tuple[list[Scored], dict[str, int]]:
    """Score the answers, one per item, in the order of the items; an item that could not be asked is wrong.

    Returns:
        The scored items, and how answers were read, counted.
    """
    scorer = SCORERS.get(task.scorer)
    readings = dict.fromkeys((*scorer.readings, "error"), 0)
    scored = []
    for item in items:
        answer = answers[item.id]
        text, value, how, reading = "", 0.0, "error", None
        if answer["error"] is None:
            text = spoken(answer["answer"])
            score = scorer.apply(text, item.answer, item.facts, task.mode or None)
            value, how, reading = score.value, score.how, score.reading
        readings[how] += 1
        scored.append(Scored(item.id, item.cluster, text, item.answer, value, reading, item.facts))
    return scored, readings


def majority_score(
    items: Sequence[Item], scorer: Scorer, mode: str | None = None, metric: Metric | None = None
) -> float:
    """The figure of giving every item the most frequent truth; of equally frequent ones, the first in the alphabet.

    Of several right answers to one item, the first counts.

    Args:
        metric: makes the figure; the accuracy when left out.
    """
    counts = Counter(item.answer if isinstance(item.answer, str) else item.answer[0] for item in items)
    guess = min(counts, key=lambda text: (-counts[text], text))
    scored = []
    for item in items:
        score = scorer.apply(guess, item.answer, item.facts, mode)
        scored.append(Scored(item.id, item.cluster, guess, item.answer, score.value, score.reading, item.facts))
    return (metric or METRICS.get("accuracy"))(scored, 0).value
