r"""Where an answer says that this is its answer: ``\boxed{...}``, "the answer is ...", "Answer: ..."."""

import re

# "answer" or "option" and a verb or colon; what follows up to the end of the line is the statement.
_STATES = re.compile(
    r"\b(?:answer|option|choice|result)\b[*_\"' ]{0,4}(?:\b(?:is|are|would be|should be|must be)\b[ ]{0,4}:?|[:=])",
    re.I,
)
_BOXED = "\\boxed{"


def last_boxed(text: str) -> str | None:
    r"""What the last ``\boxed{...}`` holds, braces inside it included; None without a closed one."""
    start = text.rfind(_BOXED)
    if start < 0:
        return None
    depth, inner = 1, start + len(_BOXED)
    for place in range(inner, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return _without_text_command(text[inner:place].strip())
    return None


def _without_text_command(text: str) -> str:
    for command in ("\\text{", "\\mathrm{", "\\textbf{", "\\mathbf{"):
        if text.startswith(command) and text.endswith("}"):
            return text[len(command) : -1].strip()
    return text


def last_statement(text: str) -> str | None:
    """The rest of the line after the last "answer is" (option, choice, result; a colon will do), None without one.

    Where nothing follows on that line ("Answer:" as a heading), the next line that holds something is taken.
    """
    ends = [match.end() for match in _STATES.finditer(text)]
    if not ends:
        return None
    for line in text[ends[-1] :].split("\n"):
        if line.strip(" *_\"'`:"):
            return line.strip()
    return None
