"""What judges are asked: prompts by name, of two kinds.

The words of all prompts are this project's own. Where a benchmark's authors published a prompt, what it asks for is the same (the
scale, the form of the reply, what counts), but figures of another prompt or another judge are not comparable with theirs.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from taid_vlm.common.registry import Registry
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.metrics.score import Score


@dataclass(frozen=True)
class Reader:
    """Says what an answer means, where the rule of a scorer could not read it; then the scorer judges that.

    Attributes:
        wording: all that the prompt says beside the item and the answer.
        question: the prompt, from an item and an answer without its thoughts.
        read: from a reply to the answer that the scorer shall read: "" where the judge says that it means nothing, None where
            the reply says nothing.
        wanted: whether to ask, from an item, an answer and what the rule made of it.
        scorers: the scorers that it helps.
        max_new_tokens: of a reply.
    """

    name: str
    wording: str
    question: Callable[[Item, str], str]
    read: Callable[[str], str | None]
    wanted: Callable[[Item, str, Score], bool]
    scorers: tuple[str, ...]
    max_new_tokens: int = 512


@dataclass(frozen=True)
class Grader:
    """Grades every answer, where no rule could.

    Attributes:
        wording: all that the prompts say beside the item and the answer.
        questions: the prompts, one for each grade, from an item and an answer as the model gave it; none where there is nothing
            to grade, which is worth 0.
        read: from a reply to its grade; None where it holds none.
        top: the largest grade; the score of an item is the mean of its grades over this.
        unread_is_wrong: whether a grade that could not be read is 0, or none at all.
        max_new_tokens: of a reply.
    """

    name: str
    wording: str
    questions: Callable[[Item, str], list[str]]
    read: Callable[[str], float | None]
    top: float = 1.0
    unread_is_wrong: bool = True
    max_new_tokens: int = 512


JudgePrompt = Reader | Grader
PROMPTS: Registry[JudgePrompt] = Registry("judge prompt")


def digest(prompt: JudgePrompt) -> str:
    """Changes whenever the wording does."""
    return hashlib.sha256(prompt.wording.encode()).hexdigest()[:16]


def rule_was_lost(item: Item, answer: str, score: Score) -> bool:
    """Whether there is an answer in which the rule found nothing."""
    return score.how == "none"
