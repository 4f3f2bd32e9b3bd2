"""What a judge is to be asked about the answers of a task, and what its replies make of them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taid_vlm_eval.answers import Answer
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.judges.prompts import PROMPTS, Grader, JudgePrompt, Reader
from taid_vlm_eval.metrics.score import SCORERS, Score
from taid_vlm_eval.task import NO_SCORER, Task
from taid_vlm_eval.thinking import spoken

# How a judged answer was read: as the judge says; not at all, as it says; its reply says nothing; there was no reply.
READ, NONE, UNREAD, ERROR = "judge", "judge none", "judge unread", "judge error"
HOWS = (READ, NONE, UNREAD, ERROR)
UNPARSED = (NONE, UNREAD, ERROR)


def prompt_of(task: Task) -> JudgePrompt | None:
    """What a judge is asked about the task's answers: what the task names, else what helps its scorer, else nothing."""
    if task.judge.prompt:
        return PROMPTS.get(task.judge.prompt)
    for name in PROMPTS:
        prompt = PROMPTS.get(name)
        if isinstance(prompt, Reader) and task.scorer in prompt.scorers:
            return prompt
    return None


def by_rule(task: Task, item: Item, answer: Answer) -> tuple[str, Score]:
    """The answer without its thoughts, and what the task's scorer makes of it; nothing where only a judge could score it."""
    if answer["error"] is not None:
        return "", Score(0.0, "error")
    text = spoken(answer["answer"])
    if task.scorer == NO_SCORER:
        return text, Score(0.0, "none" if text.strip() else "empty")
    return text, SCORERS.get(task.scorer).apply(text, item.answer, item.facts, task.mode or None)


def questions_of(prompt: JudgePrompt, task: Task, item: Item, answer: Answer) -> list[str]:
    """What to ask about one answer; nothing where there is none, or where a rule could read it."""
    if answer["error"] is not None:
        return []
    if isinstance(prompt, Grader):
        return prompt.questions(item, answer["answer"])
    text, score = by_rule(task, item, answer)
    return [prompt.question(item, text)] if prompt.wanted(item, text, score) else []


def all_questions(
    prompt: JudgePrompt, task: Task, items: Sequence[Item], answers: Mapping[str, Answer]
) -> Iterator[Item]:
    """All questions for the judge, as items of a task of their own."""
    for item in items:
        for turn, text in enumerate(questions_of(prompt, task, item, answers[item.id])):
            yield Item(_key(item, turn, text), text, "")


def _key(item: Item, turn: int, question: str) -> str:
    """The question is in it: a reply about another answer, truth or prompt is never taken for one about this."""
    mark = hashlib.sha256(question.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]
    return f"{item.id} {turn} {mark}"


@dataclass(frozen=True)
class Judgements:
    """Replies about the answers of one task.

    Attributes:
        replies: by the ids of :func:`all_questions`.
        stated: name and description of the judge, for the result.
    """

    prompt: JudgePrompt
    replies: Mapping[str, Answer]
    stated: dict[str, Any] = field(default_factory=dict)

    def judged(self, task: Task, item: Item, answer: Answer, rule: Score) -> tuple[Score, list[float | None]]:
        """The score of an answer and its grades, if any; ``rule`` as it is where the judge was not asked."""
        questions = questions_of(self.prompt, task, item, answer)
        if not questions:
            return rule, []
        replies = [self.replies[_key(item, turn, text)] for turn, text in enumerate(questions)]
        said = [None if reply["error"] is not None else spoken(reply["answer"]) for reply in replies]
        if isinstance(self.prompt, Grader):
            return _graded(self.prompt, said)
        return _read(self.prompt, task, item, said[0]), []

    def summary(self, readings: Mapping[str, int]) -> dict[str, Any]:
        """What a result says of the judge, from how answers were read: answers it was asked about, and the share it could read."""
        asked = sum(readings.get(how, 0) for how in HOWS)
        read = readings.get(READ, 0) + readings.get(NONE, 0)
        return {
            **self.stated,
            "prompt": self.prompt.name,
            "asked": asked,
            "errors": readings.get(ERROR, 0),
            "parse_rate": read / asked if asked else 1.0,
        }


def _graded(prompt: Grader, said: Sequence[str | None]) -> tuple[Score, list[float | None]]:
    grades = [None if one is None else prompt.read(one) for one in said]
    read = [grade for grade in grades if grade is not None]
    counted = len(grades) if prompt.unread_is_wrong else len(read)
    how = ERROR if None in said else UNREAD if len(read) < len(grades) else READ
    value = sum(read) / (counted * prompt.top) if counted else 0.0
    return Score(value, how, " ".join("-" if grade is None else f"{grade:g}" for grade in grades)), grades


def _read(prompt: Reader, task: Task, item: Item, said: str | None) -> Score:
    meant = None if said is None else prompt.read(said)
    if meant is None:
        return Score(0.0, ERROR if said is None else UNREAD)
    if not meant:
        return Score(0.0, NONE)
    scorer = SCORERS.get(task.scorer)
    score = scorer.apply(meant, item.answer, item.facts, task.mode or None)
    return Score(0.0, UNREAD) if score.how in scorer.unparsed else Score(score.value, READ, score.reading)
