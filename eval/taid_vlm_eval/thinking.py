"""What a model thinks before it answers, told from the answer."""

import re

_TAGS = re.compile(r"(</?think>)")


def spoken(answer: str) -> str:
    """The answer without what stands between ``<think>`` and ``</think>``; one without these tags is returned as it is.

    A thought without an end (the tokens ran out) reaches to the end of the text. One without a start began in the prompt, as
    some chat templates have it, so all before it goes.
    """
    if "<think>" not in answer and "</think>" not in answer:
        return answer
    kept: list[str] = []
    thinking = False
    for part in _TAGS.split(answer):
        if part == "<think>":
            thinking = True
        elif part == "</think>":
            if not thinking:
                kept.clear()
            thinking = False
        elif not thinking:
            kept.append(part)
    return "".join(kept).strip()
