"""Ratings for MT-Bench, 1 to 10, one for each turn of a conversation (Zheng et al., arXiv:2306.05685).

As with its authors, each turn is rated on its own with all before it in view, an answer known to be right is shown where the data has one
(mathematics, reasoning, coding), and the rating stands in double brackets behind a short explanation. The words are this project's own.
"""

import json

from taid_vlm_eval.data.item import Item
from taid_vlm_eval.judges.prompts import PROMPTS, Grader
from taid_vlm_eval.metrics.judged import mt_bench_rating
from taid_vlm_eval.thinking import spoken

_WORDING = """\
You are shown a conversation between a user and an assistant. Rate the assistant's {which} answer on a scale from 1 (useless) to 10 (excellent). What counts \
is whether it does what the user asks, whether it is right, to the point and thorough enough, and where the task leaves room for it, how original it is. A \
long answer is not better for its length.{reference} First explain your judgement in a few sentences, then end with the rating in double square brackets, \
for example: [[4]]

"""
_REFERENCE = " Compare it with the reference, which is right, and name the mistakes."
_WHICH = ("first", "second", "third", "fourth", "fifth")


def _questions(item: Item, answer: str) -> list[str]:
    asked, said = [item.question, *map(str, item.facts.get("turns", ()))], _answers(answer)
    references = [str(one) for one in item.facts.get("reference", ())]
    prompts, conversation = [], ""
    for turn, (question, one) in enumerate(zip(asked, said, strict=False)):
        reference = references[turn] if turn < len(references) else ""
        which = _WHICH[turn] if turn < len(_WHICH) else "last"
        head = _WORDING.format(which=which, reference=_REFERENCE if reference else "")
        shown = f"[Reference for the {which} answer]\n{reference}\n\n" if reference else ""
        conversation += f"[User]\n{question}\n\n[Assistant]\n{one}\n\n"
        prompts.append(head + shown + conversation + "[Your judgement]\n")
    return prompts


def _answers(answer: str) -> list[str]:
    """All answers of a conversation, or the one, without their thoughts."""
    try:
        found = json.loads(answer)
    except ValueError:
        found = None
    several = isinstance(found, list) and all(isinstance(one, str) for one in found)
    return [spoken(one) for one in (found if several else [answer])]


PROMPTS.register("mt_bench")(
    Grader(
        "mt_bench",
        _WORDING + _REFERENCE,
        _questions,
        mt_bench_rating,
        top=10.0,
        unread_is_wrong=False,
        max_new_tokens=2048,
    )
)
