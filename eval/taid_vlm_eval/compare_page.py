"""Items that one model gets right and the other wrong, as one HTML page that needs nothing else: no script, no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taid_vlm.common.pages import page_template
from taid_vlm_eval.arrays import Floats
from taid_vlm_eval.compare import Difference, Pair
from taid_vlm_eval.compare_pictures import Picture, Pictures
from taid_vlm_eval.compare_plots import Plot, plots
from taid_vlm_eval.data.item import Item
from taid_vlm_eval.metrics import Scored
from taid_vlm_eval.table import figure

GAIN = 0.5  # a score is that much higher where one counts as right and the other as wrong
PICTURES = 8  # of an item
LENGTH = 2000  # characters of a text
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Shown:
    """One item of the page."""

    id: str
    question: str
    truths: list[str]
    pictures: list[Picture]
    more_pictures: int
    right: Scored
    wrong: Scored


@dataclass(frozen=True)
class Part:
    """Items of a group that are of one category, "" where items are not sorted."""

    anchor: str
    category: str
    shown: list[Shown]


@dataclass(frozen=True)
class Group:
    """Items that ``right`` got right and ``wrong`` wrong: how many in all, how many of each category, and those shown."""

    anchor: str
    right: str
    wrong: str
    count: int
    counts: dict[str, int]  # of rows of the table of figures, such as "category/counting"
    parts: list[Part]

    @property
    def shown(self) -> int:
        """How many items are shown."""
        return sum(len(part.shown) for part in self.parts)

    @property
    def anchors(self) -> dict[str, str]:
        """Where the items of a row are shown, by the row's name; only where there are any."""
        return {part.category: part.anchor for part in self.parts if part.category}


@dataclass(frozen=True)
class Section:
    """One pair of the page; ``rows`` are its figures, each with its plot."""

    anchor: str
    pair: Pair
    rows: list[tuple[Difference, Plot]]
    groups: list[Group]


def page(pairs: Sequence[Pair], most: int = 100) -> str:
    """The page; it is well-formed XML as well, and all text of the data is escaped in it.

    Args:
        most: items that are shown of each kind.
    """
    pictures = Pictures()
    sections = [_section(f"pair-{place}", pair, most, pictures) for place, pair in enumerate(pairs, start=1)]
    heads = [section.pair.differences[0] for section in sections]
    models = {pairs[0].labels[0]: (pairs[0].first, pairs[0].models[0])}
    models |= {pair.labels[1]: (pair.second, pair.models[1]) for pair in pairs}
    template = page_template(FOLDER, "compare_page", {"short": _short, "figure": figure, "interval": _interval})
    return template.render(sections=sections, summary=list(zip(sections, plots(heads), strict=True)), models=models)


def _section(anchor: str, pair: Pair, most: int, pictures: Pictures) -> Section:
    rows = list(zip(pair.differences, plots(pair.differences), strict=True))
    return Section(anchor, pair, rows, groups(pair, most, anchor, pictures))


def groups(pair: Pair, most: int, anchor: str = "pair", pictures: Pictures | None = None) -> list[Group]:
    """First what the first gets right and the second wrong, then the reverse.

    The items with the largest gains are shown, sorted by the first fact that sorts the items; in a category, the largest gains come first.
    """
    pictures = pictures or Pictures()
    first, second = pair.scored
    reverse = (pair.labels[1], pair.labels[0])
    return [
        _group(f"{anchor}-first", pair, pair.gains_N, first, second, pair.labels, most, pictures),
        _group(f"{anchor}-second", pair, -pair.gains_N, second, first, reverse, most, pictures),
    ]


def _group(
    anchor: str,
    pair: Pair,
    gains_N: Floats,
    right: Sequence[Scored],
    wrong: Sequence[Scored],
    labels: tuple[str, str],
    most: int,
    pictures: Pictures,
) -> Group:
    chosen_n = np.flatnonzero(gains_N >= GAIN)
    # Equal gains stay in the order of the data.
    chosen_n = chosen_n[np.argsort(-gains_N[chosen_n], kind="stable")]
    counts = {
        f"{key}/{name}": int(found.mask(name)[chosen_n].sum())
        for key, found in pair.groups.items()
        for name in found.names
    }
    sorted_by = next(iter(pair.groups), None)
    parts: dict[str, list[Shown]] = {}
    for place in chosen_n[:most].tolist():
        name = pair.groups[sorted_by][place] if sorted_by is not None else None
        category = "" if name is None else f"{sorted_by}/{name}"
        parts.setdefault(category, []).append(_shown(pair.items[place], right[place], wrong[place], pictures))
    ordered = sorted(parts.items(), key=lambda part: (not part[0], part[0]))
    numbered = [Part(f"{anchor}-{number}", name, shown) for number, (name, shown) in enumerate(ordered, start=1)]
    return Group(anchor, *labels, len(chosen_n), counts, numbered)


def _shown(item: Item, right: Scored, wrong: Scored, pictures: Pictures) -> Shown:
    truths = [item.answer] if isinstance(item.answer, str) else list(dict.fromkeys(item.answer))
    return Shown(
        id=item.id,
        question=item.question,
        truths=truths,
        pictures=[pictures.get(path) for path in item.images[:PICTURES]],
        more_pictures=max(0, len(item.images) - PICTURES),
        right=right,
        wrong=wrong,
    )


def _interval(bounds: tuple[float, float], top: float, sign: str = "") -> str:
    return f"{figure(bounds[0], top, sign)} to {figure(bounds[1], top, sign)}"


def _short(text: str) -> str:
    left = len(text) - LENGTH
    return text if left <= 0 else f"{text[:LENGTH]} ... and {left:,} characters"
