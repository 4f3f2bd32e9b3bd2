"""Items that one model gets right and the other wrong, as one HTML page that needs nothing else: no script, no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from taid_vlm.common.pages import data_uri, visible
from taid_vlm_eval.compare import Pair
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.data.pictures import BrokenImageError, open_picture
from taid_vlm_eval.metrics import Scored
from taid_vlm_eval.table import figure

GAIN = 0.5  # a score is that much higher where one counts as right and the other as wrong
SIDE = 512  # pixels of a picture's longer side
PICTURES = 8  # of an item
LENGTH = 2000  # characters of a text
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Shown:
    """One item of the page: ``pictures`` are data URIs, or sentences on why there is none."""

    id: str
    category: str
    question: str
    truths: list[str]
    pictures: list[tuple[str, str]]
    more_pictures: int
    right: Scored
    wrong: Scored


@dataclass(frozen=True)
class Group:
    """Items that ``right`` got right and ``wrong`` wrong: how many in all, and those shown."""

    right: str
    wrong: str
    count: int
    shown: list[Shown]


def page(pairs: Sequence[Pair], most: int = 100) -> str:
    """The page; it is well-formed XML as well, and all text of the data is escaped in it.

    Args:
        most: items that are shown of each kind.
    """
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=_safe
    )
    environment.globals |= {"figure": figure}
    environment.filters["short"] = _short
    template = environment.from_string((FOLDER / "compare_page.html.jinja").read_text(encoding="utf-8"))
    return template.render(pairs=[(pair, groups(pair, most)) for pair in pairs])


def groups(pair: Pair, most: int) -> list[Group]:
    """First what the first gets right and the second wrong, then the reverse; the largest gains first."""
    first, second = pair.scored
    return [
        _group(pair.items, first, second, pair.first, pair.second, most),
        _group(pair.items, second, first, pair.second, pair.first, most),
    ]


def _group(
    items: Sequence[Item], right: Sequence[Scored], wrong: Sequence[Scored], winner: str, loser: str, most: int
) -> Group:
    gains = [one.value - other.value for one, other in zip(right, wrong, strict=True)]
    chosen = [place for place, gain in enumerate(gains) if gain >= GAIN]
    chosen.sort(key=lambda place: -gains[place])  # stable: equal gains stay in the order of the data
    shown = [_shown(items[place], right[place], wrong[place]) for place in chosen[:most]]
    return Group(winner, loser, len(chosen), shown)


def _shown(item: Item, right: Scored, wrong: Scored) -> Shown:
    pictures = [_picture(path) for path in item.images[:PICTURES]]
    truths = [item.answer] if isinstance(item.answer, str) else list(dict.fromkeys(item.answer))
    category = item.facts.get("category")
    return Shown(
        id=item.id,
        category="" if category is None else str(category),
        question=item.question,
        truths=truths,
        pictures=pictures,
        more_pictures=len(item.images) - len(pictures),
        right=right,
        wrong=wrong,
    )


def _picture(path: Path) -> tuple[str, str]:
    """(data URI, "") or ("", why not)."""
    try:
        image = open_picture(path)
    except BrokenImageError as error:
        return "", str(error)
    image.thumbnail((SIDE, SIDE))
    return data_uri(image), ""


def _short(text: str) -> str:
    left = len(text) - LENGTH
    return text if left <= 0 else f"{text[:LENGTH]} ... and {left:,} characters"


def _safe(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
