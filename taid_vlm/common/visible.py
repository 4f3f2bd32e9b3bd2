"""Text of data and models that an output shows rather than obeys."""

import unicodedata
from collections.abc import Mapping

JOINERS = "\u200c\u200d"  # invisible, but words of some scripts and many emoji are written with them
BREAKS = {"\n": "\n", "\t": "\t"}


def visible(text: str, breaks: Mapping[str, str] = BREAKS) -> str:
    """Text without anything that an output would obey rather than show: controls, direction marks, lone surrogates.

    Args:
        breaks: what stands for line breaks and tabs.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(breaks[character] if character in breaks else _escaped(character) for character in text)


def on_one_line(text: str) -> str:
    """The same, with a space for each line break and tab."""
    return visible(text, {"\n": " ", "\t": " "})


def _escaped(character: str) -> str:
    code = ord(character)
    never = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE  # not characters, and not allowed in XML
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp") and character not in JOINERS
    return character.encode("unicode_escape").decode() if never or hidden else character
