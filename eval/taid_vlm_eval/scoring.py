"""From answers to scored items: thinking is taken out, the task's scorer reads what is left, and a judge what it could not read."""

from collections import Counter
from collections.abc import Mapping, Sequence

from taid_vlm_eval.answers import Answer
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.data.spool import Spool
from taid_vlm_eval.judges.judgements import HOWS, UNPARSED, Judgements, by_rule
from taid_vlm_eval.metrics import METRICS, SCORERS, Scored, Scorer
from taid_vlm_eval.metrics.aggregate import Metric
from taid_vlm_eval.task import NO_SCORER, Task
from taid_vlm_eval.thinking import spoken

__all__ = ["majority_score", "parse_rate", "score_items", "spoken"]


def score_items(
    task: Task, items: Sequence[Item], answers: Mapping[str, Answer], judgements: Judgements | None = None
) -> tuple[Sequence[Scored], dict[str, int]]:
    """Score the answers, one per item, in the order of the items; an item that could not be asked is wrong.

    Args:
        judgements: of a judge, where there is one. Its grades become the fact ``grades`` of an item.

    Returns:
        The scored items, and how answers were read, counted.
    """
    readings = dict.fromkeys(_readings(task, judgements), 0)
    scored: Spool[Scored] = Spool()
    for item in items:
        text, score = by_rule(task, item, answers[item.id])
        grades: list[float | None] = []
        if judgements is not None:
            score, grades = judgements.judged(task, item, answers[item.id], score)
        readings[score.how] += 1
        facts = {**item.facts, "grades": grades} if grades else item.facts
        scored.append(Scored(item.id, item.cluster, text, item.answer, score.value, score.reading, facts))
    return scored, readings


def _readings(task: Task, judgements: Judgements | None) -> list[str]:
    by_rules = ("none", "empty") if task.scorer == NO_SCORER else SCORERS.get(task.scorer).readings
    return [*(HOWS if judgements is not None else ()), *by_rules, "error"]


def parse_rate(task: Task, readings: Mapping[str, int]) -> float:
    """The share of answers in which a rule or a judge found something; 1 when there are none."""
    unparsed = ("none", "empty") if task.scorer == NO_SCORER else SCORERS.get(task.scorer).unparsed
    lost = sum(readings.get(how, 0) for how in (*unparsed, *UNPARSED, "error"))
    total = sum(readings.values())
    return 1.0 - lost / total if total else 1.0


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
    scored: Spool[Scored] = Spool()
    for item in items:
        score = scorer.apply(guess, item.answer, item.facts, mode)
        scored.append(Scored(item.id, item.cluster, guess, item.answer, score.value, score.reading, item.facts))
    return (metric or METRICS.get("accuracy"))(scored, 0).value
