"""The answer in a solution, for MathVista, whose authors have a model look for it (Lu et al., arXiv:2310.02255).

As there, what is a bare number, a bare list, or one of the options is taken as it stands, and the judge is asked about all else. What
it finds is read by the rule ``mathvista_rule``, in the task's mode.
"""

import re

from taid_vlm_eval.data.item import Item
from taid_vlm_eval.judges.prompts import PROMPTS, Reader
from taid_vlm_eval.metrics.exact_match import unwrap
from taid_vlm_eval.metrics.numerals import written_number
from taid_vlm_eval.metrics.score import Score

_NONE = re.compile(r"[\W_]*none[\W_]*", re.I)
_LIST = re.compile(r"\[[^\[\]]*\]")
_KINDS = {
    "integer": "a whole number, such as 7",
    "float": "a number, such as 1.25",
    "list": "a list of numbers, such as [1, 3]",
}
_WORDING = """\
You are shown a question about a picture and what somebody answered, often with the steps that led there. Copy the final answer out of it: \
{kind}. Leave out units, words and steps. Do not answer the question yourself, and do not correct anything. Say none if no final answer is given.

[Question]
{question}

[Answer]
{answer}

[Your reply]
The final answer and nothing else.
"""


def _question(item: Item, answer: str) -> str:
    choices = item.facts.get("choices")
    of_choices = "one of the options, word for word: " + "; ".join(map(str, choices or []))
    kind = of_choices if choices else _KINDS.get(str(item.facts.get("answer_type")), "a word or a short text")
    return _WORDING.format(kind=kind, question=item.question, answer=answer)


def _wanted(item: Item, answer: str, score: Score) -> bool:
    bare, choices = unwrap(answer), item.facts.get("choices")
    if not answer.strip():
        return False
    if choices:
        return bare not in map(str, choices)
    if item.facts.get("answer_type") == "list":
        return _LIST.fullmatch(answer.strip()) is None
    return written_number(bare) is None


def _read(reply: str) -> str | None:
    return "" if _NONE.fullmatch(reply) else reply.strip() or None


PROMPTS.register("mathvista")(
    Reader("mathvista", "\n".join((_WORDING, *_KINDS.values())), _question, _read, _wanted, scorers=("mathvista_rule",))
)
