"""Numbers in text, read narrowly: ASCII digits with a point, perhaps with commas at the thousands."""

import re

_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?", re.ASCII)
_CURRENCY = "$€£¥"


def plain_number(text: str) -> float | None:
    """The number that ``text`` is, else None.

    "nan", "inf", "1_000" and full-width digits are numbers to Python; here they are not.
    """
    return float(text) if _PLAIN.fullmatch(text) else None


def written_number(text: str) -> float | None:
    """Like :func:`plain_number`, but "1,234.5", a currency sign in front and spaces around are understood."""
    text = text.strip()
    sign = text[:1] if text[:1] in ("-", "+") else ""
    text = sign + text[len(sign) :].lstrip(_CURRENCY).lstrip()
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    return plain_number(text)
