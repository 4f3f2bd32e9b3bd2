"""Ways of asking, by name: what a task wants of a model beyond one generated answer.

- ``answer``: the answer to the question, generated. The usual way.
- ``letters``: the letter of the likeliest option, by one forward pass; no answer is generated where an item has options.
- ``options``: the log-likelihood of each option's text (HellaSwag, ARC).
- ``continuation``: the log-likelihood of the true answer, and whether greedy decoding writes it (LAMBADA).
- ``turns``: the answers to the question and to those that follow it (MT-Bench).
- ``divergence``: how far the model is from a teacher along the true answer.

Each is a model around a model (:mod:`taid_vlm_eval.models.ways`), so that batches, processes and resuming stay as they are.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.task import Task

WAYS = ("answer", "letters", "options", "continuation", "turns", "divergence")
PLAIN_WAYS = ("letters", "options", "continuation")  # may stand outside the chat template
LETTER_SCORERS = ("choice", "choice_or_text", "mmmu")
LETTERS = ("generated", "likelihood")
BY_LETTERS = "letters by likelihood, by one forward pass where an item has options"
_SHOWN = re.compile(r"(?:^|[\s,;:])\(?([A-Z])[.:)](?=\s)", re.M)


def require_way(task: Task) -> None:
    """Refuse a way of asking that does not exist or does not go with the rest of the task.

    Raises:
        UserError: it says what would be right.
    """
    if task.asks not in WAYS:
        raise UserError(f"unknown asks {task.asks!r}: {did_you_mean(task.asks, WAYS)}")
    if not task.template and task.asks not in PLAIN_WAYS:
        raise UserError(f"template is false, which goes with asks {', '.join(PLAIN_WAYS)}, but asks is {task.asks!r}")
    scorers = {"letters": LETTER_SCORERS, "options": ("likelihood",)}
    needed = {**scorers, "continuation": ("continuation",), "divergence": ("divergence",)}.get(task.asks)
    if needed and task.scorer not in needed:
        raise UserError(f"asks is {task.asks!r} and the scorer {task.scorer!r}, expected {' or '.join(needed)}")


def require_letters(letters: str, tasks: Sequence[Task]) -> None:
    """Refuse a choice of how letters are found that does not exist, or that changes nothing for any of the tasks.

    Raises:
        UserError: see above.
    """
    if letters not in LETTERS:
        raise UserError(f"unknown letters {letters!r}: {did_you_mean(letters, LETTERS)}")
    if letters == "likelihood" and all(with_letters(task, letters) is task for task in tasks if task.asks != "letters"):
        names = ", ".join(task.name for task in tasks)
        raise UserError(f"no task of {names} has letters of options as its answers; leave --letters out")


def require_teacher(there: bool, tasks: Sequence[Task]) -> None:
    """Refuse a task that measures a divergence without a teacher, and a teacher without such a task.

    Raises:
        UserError: see above.
    """
    names = [task.name for task in tasks if task.asks == "divergence"]
    if names and not there:
        raise UserError(f"{', '.join(names)}: a divergence is measured to a teacher; name one with --teacher")
    if there and not names:
        raise UserError(
            "a teacher is named, but no task measures a divergence to it; add kl_chatterbot, say, or leave it out"
        )


def with_letters(task: Task, letters: str) -> Task:
    """With ``letters`` "likelihood", a task whose answers are letters with them by likelihood, and so labelled; others as they are."""
    if letters != "likelihood" or task.asks != "answer" or task.scorer not in LETTER_SCORERS:
        return task
    return replace(task, asks="letters", protocol=f"{BY_LETTERS}; {task.protocol}".removesuffix("; "))


def texts_of(item: Item, task: Task) -> tuple[str, ...]:
    """What :attr:`Request.texts` is for an item."""
    if task.asks == "letters":
        return option_letters(item)
    if task.asks == "options":
        return tuple(item.facts.get("options", {}).values())
    if task.asks == "turns":
        return tuple(item.facts.get("turns", ()))
    if task.asks in ("divergence", "continuation"):
        return (item.answer if isinstance(item.answer, str) else item.answer[0],)
    return ()


def option_letters(item: Item) -> tuple[str, ...]:
    """The letters of an item's options: those of the data, else those that the question shows ("A. red", "(B) blue"), A first."""
    known = item.facts.get("options")
    if known:
        return tuple(known)
    shown = set(_SHOWN.findall(item.question))
    letters = "ABCDEFGHIJ"
    count = next((place for place, letter in enumerate(letters) if letter not in shown), len(letters))
    return tuple(letters[:count]) if count > 1 else ()


def earlier_turns(item: Item) -> tuple[tuple[str, str], ...]:
    """Turns before the question, where the data has any."""
    return tuple((question, answer) for question, answer in item.facts.get("earlier", ()))
