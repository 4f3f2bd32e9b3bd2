"""Charts: what is asked is what is drawn, and no number is in two splits."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taid_vlm.study.charts import COLOURS, NUMBERS, Bars, ask_bars, draw_bars, draw_line, write_split
from taid_vlm.study.tables import BLOCK, Block, blocks_of

NAMES = {value: name for name, value in COLOURS.items()}


def some_blocks(count: int = 12) -> list[Block]:
    draws = random.Random(3)
    return [Block(f"b{i}", tuple(draws.uniform(1, 100) for _ in range(BLOCK))) for i in range(count)]


def seen_bars(picture: Image.Image) -> list[tuple[str, int]]:
    """Colours and heights from left to right, read from the pixels."""
    pixels = np.asarray(picture)
    found: list[tuple[str, int]] = []
    for x in range(pixels.shape[1]):
        names = [NAMES[tuple(int(v) for v in p)] for p in pixels[:, x] if tuple(int(v) for v in p) in NAMES]
        if names and (not found or found[-1][0] != names[0]):
            found.append((names[0], len(names)))
    return found


def rows_of(folder: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("charts")
    write_split(folder, "train", some_blocks(), 120)
    return folder


def asked(row: dict) -> tuple[str, str]:
    return row["messages"][0]["content"][1]["text"], row["messages"][1]["content"]


def test_answers_about_bars_are_true_of_the_pixels(written: Path) -> None:
    checked: Counter[str] = Counter()
    for row in rows_of(written, "train"):
        question, answer = asked(row)
        bars = seen_bars(Image.open(written / row["images"][0]))
        by_height = sorted(bars, key=lambda bar: bar[1])
        colours = [name for name, _ in bars]
        if row["kind"] == "highest":
            truth = by_height[-1][0]
        elif row["kind"] == "lowest":
            truth = by_height[0][0]
        elif row["kind"] == "count":
            truth = NUMBERS[len(bars)]
        elif row["kind"] == "presence":
            truth = "yes" if question.split()[3] in colours else "no"
        elif row["kind"] in ("compare", "order"):
            first, second = (colours.index(word) for word in question.split() if word in COLOURS)
            truth = "yes" if (first < second if row["kind"] == "order" else bars[first][1] > bars[second][1]) else "no"
        else:
            continue
        assert answer == truth, (question, bars)
        checked[row["kind"]] += 1
    assert len(checked) == 6, checked


def test_answers_about_lines_are_true_of_the_pixels(written: Path) -> None:
    checked: Counter[str] = Counter()
    for row in rows_of(written, "train"):
        _, answer = asked(row)
        pixels = np.asarray(Image.open(written / row["images"][0]))
        drawn = np.array([[tuple(int(v) for v in p) in NAMES for p in line] for line in pixels])
        if row["kind"] == "colour":
            names = {NAMES[tuple(int(v) for v in p)] for p in pixels[drawn]}
            assert {answer} == names
        elif row["kind"] in ("peak", "valley"):
            heights = np.where(drawn)[0]
            level = heights.min() if row["kind"] == "peak" else heights.max()
            middle = np.mean(np.where(drawn[level])[0])
            assert answer == ("left" if middle < pixels.shape[1] / 2 else "right")
        elif row["kind"] == "trend":
            columns = np.where(drawn.any(axis=0))[0]
            start, end = (np.mean(np.where(drawn[:, x])[0]) for x in (columns[3], columns[-4]))
            assert answer == ("yes" if end < start else "no")
        else:
            continue
        checked[row["kind"]] += 1
    assert len(checked) == 4, checked


def test_the_same_charts_are_drawn_everywhere(tmp_path: Path, written: Path) -> None:
    write_split(tmp_path, "train", some_blocks(), 120)
    assert (tmp_path / "train.jsonl").read_bytes() == (written / "train.jsonl").read_bytes()
    assert (tmp_path / "train" / "0007.png").read_bytes() == (written / "train" / "0007.png").read_bytes()


def test_a_comparison_is_asked_only_where_it_can_be_seen() -> None:
    bars = Bars(("red", "blue", "green"), (100.0, 96.0, 50.0))
    for seed in range(40):
        compared = next(one for one in ask_bars(random.Random(seed), bars) if one.kind == "compare")
        assert "green" in compared.question  # red and blue differ by a twenty-fifth


def test_drawings_fill_the_plot() -> None:
    assert max(height for _, height in seen_bars(draw_bars(Bars(("red", "black"), (3.0, 9.0))))) > 100
    line = np.asarray(draw_line("blue", (1.0, 5.0, 2.0))) == COLOURS["blue"]
    assert np.ptp(np.where(line.all(axis=2))[0]) > 100


def test_no_number_of_a_table_is_in_two_splits(tmp_path: Path) -> None:
    """Tables whose every cell is another number."""
    from taid_vlm.study.tables import SERIES

    counter = iter(range(1, 10**6))
    for name, key, columns in SERIES:
        rows = [{**({key: f"s{i % 3}"} if key else {}), **{c: next(counter) for c in columns}} for i in range(180)]
        if name.endswith(".json"):
            (tmp_path / name).write_text(json.dumps(rows))
        else:
            heads = list(rows[0])
            lines = [",".join(heads), *(",".join(str(row[h]) for h in heads) for row in rows)]
            (tmp_path / name).write_text("\n".join(lines) + "\n")
    found = blocks_of(tmp_path)
    values = {split: {value for block in blocks for value in block.values} for split, blocks in found.items()}
    assert not values["train"] & values["test"]
    assert not values["train"] & values["validation"]
    assert not values["validation"] & values["test"]
    assert len(values["train"]) > 6 * len(values["test"]) > 0
