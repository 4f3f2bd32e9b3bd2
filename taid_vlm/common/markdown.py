"""Cards in Markdown with fields in front, in which text of others shows as it is and cannot leave its place."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from taid_vlm.common.visible import on_one_line

FIELDS = re.compile(r"\A---\r?\n(.*?\n)---\r?(?:\n|\Z)", re.DOTALL)
MARKS = re.compile(r"[\\`*~\[\]<>|$&]|(?<![^\W_])_|_(?![^\W_])")
BREAKS = frozenset("\x85\u2028\u2029")  # line breaks to YAML: written as they are, they are read as spaces
# What begins a heading, a list, a quotation or a rule at the start of a line.
BEGINNING = re.compile(r"^(?:[#=]|[+-](?=[\s+-]|$)|(\d+)(?=[.)](?:\s|$)))")
CLOSING = re.compile(r"(?<=\s)#+$")  # in a heading it would end it and not show


def one_line(text: str) -> str:
    """Text without line breaks and repeated spaces, and without characters that an output obeys."""
    return " ".join(on_one_line(text).split())


def plain(text: str) -> str:
    """Text as a line of prose, a heading or a cell of a table: nothing in it is markup, a link or HTML."""
    escaped = CLOSING.sub(r"\\\g<0>", MARKS.sub(r"\\\g<0>", one_line(text)))
    return BEGINNING.sub(lambda found: f"{found[0]}\\" if found[1] else f"\\{found[0]}", escaped)


def _dumped(fields: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    if BREAKS.isdisjoint(text):
        return text
    return str(yaml.safe_dump(fields, sort_keys=False))  # escaped


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text, its cells taken as they are: escape what comes from others with :func:`plain`."""
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def fenced(text: str, language: str = "") -> str:
    """Text as a block of code, whatever runs of backticks are in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def card(fields: Mapping[str, Any], body: str) -> str:
    """A card: fields that a hub reads, then Markdown. Fields without a value are left out."""
    kept = {key: value for key, value in fields.items() if value not in (None, "", [])}
    return f"---\n{_dumped(kept)}---\n{body}"


def read_card(text: str) -> tuple[dict[str, Any], str]:
    """Fields and body of a card; no fields where there are none, or where they are no YAML."""
    found = FIELDS.match(text)
    if found is None:
        return {}, text
    try:
        fields = yaml.safe_load(found[1])
    except yaml.YAMLError:
        fields = None
    return fields if isinstance(fields, dict) else {}, text[found.end() :]
