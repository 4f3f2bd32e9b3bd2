"""The pages of the documentation as tests see them: fenced blocks with what stands above them, headings, links."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tools.build_docs import sources

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*) *$")
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?\)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: file, relative to the checkout. line: of its first line, counted from 1.
        language: the word after the fence. text: what is inside.
        marks: comments directly above it, as key to value: ``<!-- needs: gpu hub -->``.
    """

    page: str
    line: int
    language: str
    text: str
    marks: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """All Markdown files of the site."""
    return [path.as_posix() for path in sources() if path.suffix == ".md"]


@cache
def text_of(page: str) -> str:
    """What the file holds."""
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def blocks_of(page: str) -> list[Block]:
    """Its fenced blocks in their order."""
    found, lines, start = [], text_of(page).splitlines(), None
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if start is None and fence:
            start = (number, fence["language"], len(fence["indent"]))
        elif start is not None and line.strip() == "```":
            first, language, indent = start
            text = "\n".join(one[indent:] for one in lines[first + 1 : number]) + "\n"
            found.append(Block(page, first + 2, language, text, _marks_above(lines, first)))
            start = None
    assert start is None, f"{page}: a block that begins at line {start} does not end"
    return found


def blocks(*languages: str) -> list[Block]:
    """Blocks of all pages in one of these languages."""
    return [block for page in pages() for block in blocks_of(page) if block.language in languages]


def prose_of(page: str) -> str:
    """The page without its blocks and without code in a line."""
    text = re.sub(r"^ *```.*?^ *```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def links_of(page: str) -> list[str]:
    """Targets of links and pictures."""
    return LINK.findall(prose_of(page)) + re.findall(r'(?:src|href)="([^"]+)"', prose_of(page))


@cache
def anchors_of(page: str) -> frozenset[str]:
    """Names that a link may end in: those which GitHub and the site's generator give alike, and explicit ones."""
    code = re.sub(r"^ *```.*?^ *```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    headings = [
        re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", one) for one in re.findall(r"^#+ (.*)$", code, re.MULTILINE)
    ]
    assert headings, f"{page} has no heading"
    alike = {_of_generator(one) for one in headings} & {_of_github(one) for one in headings}
    return frozenset(alike | set(re.findall(r'<a id="([^"]+)">', code)))


def _of_github(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _of_generator(heading: str) -> str:
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def _marks_above(lines: list[str], fence: int) -> dict[str, str]:
    marks: dict[str, str] = {}
    while fence and (comment := re.fullmatch(r" *<!-- ([\w ]+?)(?:: ([^>]*?))? -->", lines[fence - 1])):
        marks[comment[1]] = comment[2] or ""
        fence -= 1
    return marks
