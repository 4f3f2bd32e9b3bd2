"""Which option an answer means, for answers in which no rule finds a letter."""

from taid_vlm_eval.data.item import Item
from taid_vlm_eval.judges.prompts import PROMPTS, Reader, rule_was_lost
from taid_vlm_eval.metrics.letters import option_table, read_letter

_NONE = "Z"
_LETTERS = dict.fromkeys("ABCDEFGHIJ" + _NONE, "")
_WORDING = """\
You are shown a multiple-choice question and what somebody answered. Say which option the answer means. Do not answer the question yourself, \
and do not mind whether the answer is right. Say Z if the answer means none of the options, or more than one.

[Question]
{question}
{options}
[Answer]
{answer}

[Your reply]
One letter and nothing else.
"""


def _question(item: Item, answer: str) -> str:
    options = item.facts.get("options")
    lines = "".join(f"{letter}. {text}\n" for letter, text in option_table(options).items()) if options else ""
    shown = f"\n[Options]\n{lines}" if lines else ""
    return _WORDING.format(question=item.bare if options and item.bare else item.question, options=shown, answer=answer)


def _read(reply: str) -> str | None:
    letter, _ = read_letter(reply, _LETTERS)
    return "" if letter == _NONE else letter


PROMPTS.register("choice")(
    Reader("choice", _WORDING, _question, _read, rule_was_lost, scorers=("choice", "choice_or_text", "mmmu"))
)
