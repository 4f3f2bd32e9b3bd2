"""Text that means something to a model, and what becomes of it in a conversation.

A control token that a person types, or that an answer quotes, must stay text: it would end a turn, open another, or ask for a picture.
"""

import re
from collections.abc import Iterable
from typing import Any

# What templates write around turns, token or not: <|user|>, <start_of_turn>, [/INST], <<SYS>>. Words such as USER: are no markers.
THOUGHT = re.compile(r"(\s*)<think>(.*?)</think>(.*)", re.DOTALL)
MARKER = re.compile(r"<\|[^<>|\s]+\|>|</?[A-Za-z_]+>|<</?[A-Z]+>>|\[/?[A-Z_]+\]")


class ControlText:
    """The control texts of one model: special tokens, the markers that its template writes, and those around pictures.

    Tokens that were added but are not special (runs of spaces, HTML tags, ``<tool_call>``) are ordinary words, unless the template writes
    them.

    Args:
        template: Jinja text of the chat template.
        pictures: the placeholder, and the markers of its style.
    """

    def __init__(self, tokenizer: Any, template: str, pictures: Iterable[str] = ()) -> None:
        texts = {*special_tokens(tokenizer), *MARKER.findall(template), *pictures} - {""}
        longest_first = sorted(texts, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._thinks = {"<think>", "</think>"} <= set(MARKER.findall(template))

    def neutral(self, text: str) -> str:
        """The text without any control text: each gets a space after its first character.

        Where the space makes another one, which takes tokens that contain each other, that one is taken out.
        """
        if not self._pattern.search(text):
            return text
        text = self._pattern.sub(lambda found: found[0][0] + " " + found[0][1:], text)
        while self._pattern.search(text):
            text = self._pattern.sub("", text)
        return text

    def answer(self, text: str) -> str:
        """The same for what an assistant says; a thought that opens it is its own, where the template writes thoughts.

        ``<think>...</think>`` stays at the beginning alone, and only where the two tags are all that means anything.
        """
        found = THOUGHT.fullmatch(text) if self._thinks else None
        if found is None:
            return self.neutral(text)
        space, thought, words = found.groups()
        kept = f"{space}<think>{self.neutral(thought)}</think>{self.neutral(words)}"
        return kept if self._pattern.findall(kept) == ["<think>", "</think>"] else self.neutral(text)


def special_tokens(tokenizer: Any) -> list[str]:
    """Special tokens of a tokenizer in the order of their ids."""
    added = [token for _, token in sorted(tokenizer.added_tokens_decoder.items())]
    return list(dict.fromkeys([*(str(token) for token in added if token.special), *tokenizer.all_special_tokens]))
