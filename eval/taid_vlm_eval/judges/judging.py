"""Ask a judge about the answers of a task; its replies are kept as answers are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm_eval.answering import Running, answer_items
from taid_vlm_eval.answers import Answer, read_answers
from taid_vlm_eval.answers_file import AnswersFile
from taid_vlm_eval.data import Item, ItemTable
from taid_vlm_eval.data.spool import Spool
from taid_vlm_eval.judges.judge import Judge
from taid_vlm_eval.judges.judgements import Judgements, all_questions, prompt_of
from taid_vlm_eval.judges.prompts import JudgePrompt, digest
from taid_vlm_eval.style import Style
from taid_vlm_eval.task import Generation, Judging, Prompt, Task

SUFFIX = ".judgements.jsonl"


@contextmanager
def judged(
    judge: Judge | None,
    task: Task,
    items: Sequence[Item],
    answers: Mapping[str, Answer],
    folder: Path,
    running: Running,
    say: Callable[[str], None] | None = None,
) -> Iterator[Judgements | None]:
    """What ``judge`` says of the answers, all of which are there; None where there is no judge, or nothing that it is asked.

    Replies are appended to ``<folder>/<task>.judgements.jsonl`` as they come. What has a reply is not asked again, unless the judge, its
    prompt, or the answer is another one; a question that a server failed is asked again when the run is started again.

    Raises:
        UserError: see :func:`answer_items`, and :meth:`Judge.open`.
    """
    prompt = prompt_of(task)
    if judge is None or prompt is None:
        yield None
        return
    questions = ItemTable(Spool(all_questions(prompt, task, items, answers)), None)
    if not len(questions):
        yield Judgements(prompt, {}, {"name": judge.kind})
        return
    header = judge_header(judge, task, prompt)
    with AnswersFile(folder / f"{task.name}{SUFFIX}", header, questions.places) as replies:
        if replies.set_aside and say is not None:
            say(replies.set_aside)
        answer_items(judge.model, questions, _as_task(task, prompt), replies, running)
        yield Judgements(prompt, replies, {"name": judge.name, "model": header["judge"]})


def judge_header(judge: Judge, task: Task, prompt: JudgePrompt) -> dict[str, Any]:
    """What decides the replies beside the questions, which are in their ids."""
    return {
        "judge": judge.model.describe(),
        "task": task.name,
        "prompt": {"name": prompt.name, "sha256": digest(prompt)},
        "generation": asdict(Generation(prompt.max_new_tokens)),
    }


def _as_task(task: Task, prompt: JudgePrompt) -> Task:
    return replace(
        task,
        name=f"{task.name} (judge)",
        prompt=Prompt(),
        generation=Generation(prompt.max_new_tokens),
        style=Style(),
        judge=Judging(),
        asks="answer",
        template=True,
    )


def kept_judgements(task: Task, folder: Path, stated: Mapping[str, Any]) -> Judgements | None:
    """The judgements behind a finished result, from what it states of its judge; None where no judge was asked.

    Raises:
        UserError: they are not there, or are another judge's.
    """
    prompt = prompt_of(task)
    if prompt is None or stated["name"] == "rule":
        return None
    if not stated["asked"]:
        return Judgements(prompt, {}, dict(stated))
    path = folder / f"{task.name}{SUFFIX}"
    header, replies, _ = read_answers(path)
    if (
        header is None
        or header.get("judge") != stated["model"]
        or header.get("prompt", {}).get("sha256") != digest(prompt)
    ):
        raise UserError(f"{path} holds other judgements than those of the result beside it; finish the evaluation")
    return Judgements(prompt, replies, dict(stated))
