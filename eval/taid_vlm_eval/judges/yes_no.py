"""Whether an answer means yes or no, for answers in which no rule finds either (HallusionBench, POPE, MME)."""

import re

from taid_vlm_eval.data.item import Item
from taid_vlm_eval.judges.prompts import PROMPTS, Reader, rule_was_lost
from taid_vlm_eval.metrics.yes_no import read_yes_no

_NEITHER = re.compile(r"[\W_]*neither[\W_]*", re.I)
_WORDING = """\
You are shown a question that is answered with yes or no, and what somebody answered. Say whether the answer means yes or no. Do not answer \
the question yourself, and do not mind whether the answer is right. Say neither if the answer does not decide.

[Question]
{question}

[Answer]
{answer}

[Your reply]
One of the words yes, no and neither, and nothing else.
"""


def _question(item: Item, answer: str) -> str:
    return _WORDING.format(question=item.question, answer=answer)


def _read(reply: str) -> str | None:
    return "" if _NEITHER.fullmatch(reply) else read_yes_no(reply)[0]


PROMPTS.register("yes_no")(Reader("yes_no", _WORDING, _question, _read, rule_was_lost, scorers=("yes_no",)))
