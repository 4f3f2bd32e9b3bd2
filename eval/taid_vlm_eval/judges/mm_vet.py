"""Grades for MM-Vet, from 0.0 to 1.0 in tenths (Yu et al., arXiv:2308.02490).

As with its authors, the judge sees no picture, only question, truth and answer as the last row of a table with examples, and writes the
grade into the last cell. Table and words are this project's own.
"""

from taid_vlm_eval.data.item import Item
from taid_vlm_eval.judges.prompts import PROMPTS, Grader
from taid_vlm_eval.metrics.judged import mm_vet_grade
from taid_vlm_eval.metrics.score import truths_of
from taid_vlm_eval.thinking import spoken

_WORDING = """\
Grade how right each answer to a question about a picture is, from 0.0 (all wrong) in steps of 0.1 to 1.0 (all right), by the truth beside it. Parts of the \
truth that stand around <AND> must all be in an answer that is all right; of parts around <OR>, one is enough. Other words for the same thing are right. \
Reply with the grade that is missing in the last row, and nothing else.

| question | truth | answer | grade |
|---|---|---|---|
| What do the two signs say? | stop <AND> exit | One says "stop"; the other cannot be read. | 0.5 |
| What do the two signs say? | stop <AND> exit | STOP and EXIT | 1.0 |
| How much is the bread? | 3.20 <OR> 3.2 euros | It costs 3.20 EUR. | 1.0 |
| How much is the bread? | 3.20 <OR> 3.2 euros | It costs 32 EUR. | 0.0 |
| Why is the man in the cartoon laughing? | His dog wears his glasses and reads the paper, as if it were him. | A dog next to him is reading. | 0.4 |
| Why is the man in the cartoon laughing? | His dog wears his glasses and reads the paper, as if it were him. | He is at a party. | 0.0 |
| Which animals are left of the tree? | a cow <AND> two goats <AND> a hen | a cow and two goats | 0.7 |
"""


def _questions(item: Item, answer: str) -> list[str]:
    said = spoken(answer)
    if not said.strip():
        return []
    cells = (item.bare or item.question, " <OR> ".join(truths_of(item.answer)), said)
    return [_WORDING + "| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells) + " |"]


PROMPTS.register("mm_vet")(Grader("mm_vet", _WORDING, _questions, mm_vet_grade))
