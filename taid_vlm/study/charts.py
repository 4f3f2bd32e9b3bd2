"""Questions about charts that are drawn from real tables: small pictures, answers of one word, truth that is computed.

Bars are five numbers of one column at most, each in a colour of its own; lines are neighbouring numbers of one series. What cannot be read at
this size is not asked: bars that are compared differ by a tenth of the highest, and a line ends clearly above or below its start.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

from taid_vlm.common.assets import asset_path, cache_folder
from taid_vlm.common.files import new_folder
from taid_vlm.study.tables import Block, blocks_of

VERSION = 1  # another drawing, another folder
SIDE = 128
LEFT, RIGHT, TOP, BOTTOM = 10, 122, 8, 118
COLOURS = {
    "red": (214, 39, 40),
    "blue": (31, 87, 200),
    "green": (44, 150, 44),
    "orange": (255, 150, 14),
    "purple": (140, 60, 170),
    "black": (20, 20, 20),
}
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
PICTURES = {"train": 3000, "validation": 150, "test": 300}
BLANK = 300  # questions of the test split that are asked without a picture, too
GAP = 0.1  # of the highest bar, or of a line's span


class Asked(NamedTuple):
    """A question with its answer, one word, and its kind."""

    kind: str
    question: str
    answer: str


@dataclass(frozen=True)
class Bars:
    """Colours and heights, from left to right."""

    colours: tuple[str, ...]
    heights: tuple[float, ...]


def chart_folder() -> Path:
    """The folder with ``<split>.jsonl`` and pictures, in the cache; drawn when it is not there. The same on every machine."""
    folder = cache_folder() / "study" / f"charts-{VERSION}"
    if not folder.is_dir():
        blocks = blocks_of(asset_path("vega-datasets") / "vega_datasets" / "_data")
        with new_folder(folder) as temporary:
            for split, pictures in PICTURES.items():
                write_split(temporary, split, blocks[split], pictures)
            # For the image ablation: the same questions, and nothing to see.
            Image.new("RGB", (SIDE, SIDE), "white").save(temporary / "blank.png")
            rows = [json.loads(line) for line in (temporary / "test.jsonl").read_text().splitlines()]
            _write(temporary / "blank.jsonl", [{**row, "images": ["blank.png"]} for row in rows[:BLANK]])
    return folder


def write_split(folder: Path, split: str, blocks: list[Block], pictures: int) -> None:
    """Draw ``pictures`` charts, alternately bars and lines, and write two questions about each."""
    draws = random.Random(f"charts {VERSION} {split}")
    (folder / split).mkdir()
    rows: list[dict[str, Any]] = []
    for index in range(pictures):
        picture, asked = (_bars if index % 2 else _line)(draws, blocks)
        name = f"{split}/{index:04d}.png"
        picture.save(folder / name)
        for one in draws.sample(asked, 2):
            rows.append(_row(f"{split}-{len(rows)}", name, one))
    _write(folder / f"{split}.jsonl", rows)


def _row(name: str, picture: str, asked: Asked) -> dict[str, Any]:
    parts = [{"type": "image"}, {"type": "text", "text": asked.question}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": asked.answer}]
    return {"id": name, "kind": asked.kind, "messages": messages, "images": [picture]}


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _bars(draws: random.Random, blocks: list[Block]) -> tuple[Image.Image, list[Asked]]:
    while True:
        count = draws.randint(2, 5)
        values = [abs(value) for value in draws.sample(draws.choice(blocks).values, count)]
        bars = Bars(tuple(draws.sample(list(COLOURS), count)), tuple(values))
        ordered = sorted(values)
        if (
            ordered[-1]
            and ordered[-1] - ordered[-2] >= GAP * ordered[-1]
            and ordered[1] - ordered[0] >= GAP * ordered[-1]
        ):
            return draw_bars(bars), list(ask_bars(draws, bars))


def draw_bars(bars: Bars) -> Image.Image:
    """Bars on a common base, the highest as high as the picture allows."""
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(picture)
    pen.line([(LEFT - 3, BOTTOM), (RIGHT, BOTTOM)], fill=(90, 90, 90), width=2)
    place = (RIGHT - LEFT) / len(bars.heights)
    for index, (colour, height) in enumerate(zip(bars.colours, bars.heights, strict=True)):
        start = LEFT + (index + 0.15) * place
        top = BOTTOM - max(2.0, height / max(bars.heights) * (BOTTOM - TOP))
        pen.rectangle([start, top, start + 0.7 * place, BOTTOM - 1], fill=COLOURS[colour])
    return picture


def ask_bars(draws: random.Random, bars: Bars) -> Iterator[Asked]:
    """Every kind of question that these bars allow."""
    highest, lowest = bars.heights.index(max(bars.heights)), bars.heights.index(min(bars.heights))
    yield Asked("highest", "Which colour is the highest bar?", bars.colours[highest])
    yield Asked("lowest", "Which colour is the lowest bar?", bars.colours[lowest])
    yield Asked("count", "How many bars are there?", NUMBERS[len(bars.heights)])
    places = [(a, b) for a in range(len(bars.heights)) for b in range(len(bars.heights)) if a != b]
    apart = [(a, b) for a, b in places if abs(bars.heights[a] - bars.heights[b]) >= GAP * max(bars.heights)]
    a, b = draws.choice(apart)
    higher = "yes" if bars.heights[a] > bars.heights[b] else "no"
    yield Asked("compare", f"Is the {bars.colours[a]} bar higher than the {bars.colours[b]} bar?", higher)
    a, b = draws.choice(places)
    yield Asked("order", f"Is the {bars.colours[a]} bar left of the {bars.colours[b]} bar?", "yes" if a < b else "no")
    colour = draws.choice(list(COLOURS))
    yield Asked("presence", f"Is there a {colour} bar?", "yes" if colour in bars.colours else "no")


def _line(draws: random.Random, blocks: list[Block]) -> tuple[Image.Image, list[Asked]]:
    while True:
        series = draws.choice(blocks).values
        length = draws.randint(6, 10)
        start = draws.randrange(len(series) - length + 1)
        values = series[start : start + length]
        span = max(values) - min(values)
        if not span or abs(values[-1] - values[0]) < 2 * GAP * span:
            continue
        best, worst = values.index(max(values)), values.index(min(values))
        middle = (length - 1) / 2
        if (
            abs(best - middle) < 1
            or abs(worst - middle) < 1
            or values.count(max(values)) > 1
            or values.count(min(values)) > 1
        ):
            continue
        colour = draws.choice(list(COLOURS))
        return draw_line(colour, values), [
            Asked("trend", "Does the line end higher than it starts?", "yes" if values[-1] > values[0] else "no"),
            Asked("peak", "Is the highest point on the left or on the right?", "left" if best < middle else "right"),
            Asked("valley", "Is the lowest point on the left or on the right?", "left" if worst < middle else "right"),
            Asked("colour", "Which colour is the line?", colour),
            Asked("chart", "Are there bars or a line?", "line"),
        ]


def draw_line(colour: str, values: tuple[float, ...]) -> Image.Image:
    """A line through the values, its lowest and highest at the edges of the plot."""
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(picture)
    pen.line([(LEFT - 3, TOP), (LEFT - 3, BOTTOM + 3), (RIGHT, BOTTOM + 3)], fill=(90, 90, 90), width=2)
    low, high = min(values), max(values)
    step = (RIGHT - LEFT) / (len(values) - 1)
    points = [(LEFT + i * step, BOTTOM - (v - low) / (high - low) * (BOTTOM - TOP)) for i, v in enumerate(values)]
    pen.line(points, fill=COLOURS[colour], width=5, joint="curve")
    return picture
