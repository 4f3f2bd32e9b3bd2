"""Series of real numbers from the tables of the vega-datasets package, cut into blocks that belong to one split."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = 20  # rows in a row of a table
SPLITS = ("train", "validation", "test")
# File, the column that says which series a row is of ("" for one series), and columns of numbers. Dates stand in order in all of them.
SERIES = (
    ("barley.json", "", ("yield",)),
    ("cars.json", "", ("Miles_per_Gallon", "Horsepower", "Weight_in_lbs", "Displacement", "Acceleration")),
    ("crimea.json", "", ("wounds", "other", "disease")),
    ("driving.json", "", ("miles", "gas")),
    ("iowa-electricity.csv", "source", ("net_generation",)),
    ("iris.json", "", ("sepalLength", "sepalWidth", "petalLength", "petalWidth")),
    ("seattle-weather.csv", "", ("precipitation", "temp_max", "temp_min", "wind")),
    ("stocks.csv", "symbol", ("price",)),
    ("us-employment.csv", "", ("nonfarm", "construction", "manufacturing", "retail_trade", "information", "utilities")),
    ("wheat.json", "", ("wheat", "wages")),
)


@dataclass(frozen=True)
class Block:
    """Neighbouring numbers of one series; no number is in two blocks.

    Attributes:
        name: file, series, column and first row.
    """

    name: str
    values: tuple[float, ...]


def blocks_of(folder: Path) -> dict[str, list[Block]]:
    """The blocks of each split; every tenth block is for validation, and the one after it for testing.

    Args:
        folder: the unpacked package's ``vega_datasets/_data``.
    """
    found: dict[str, list[Block]] = {split: [] for split in SPLITS}
    for number, block in enumerate(_blocks(folder)):
        found[{8: "validation", 9: "test"}.get(number % 10, "train")].append(block)
    return found


def _blocks(folder: Path) -> Iterator[Block]:
    for name, key, columns in SERIES:
        series: dict[str, list[dict[str, str]]] = {}
        for row in _rows(folder / name):
            series.setdefault(str(row[key]) if key else "", []).append(row)
        for which, rows in series.items():
            for column in columns:
                for start in range(0, len(rows), BLOCK):
                    cells = [row.get(column) for row in rows[start : start + BLOCK]]
                    values = tuple(float(cell) for cell in cells if cell not in (None, ""))
                    if len(values) >= BLOCK // 2:
                        yield Block(f"{name}/{which}/{column}/{start}", values)


def _rows(file: Path) -> list[dict[str, str]]:
    if file.suffix == ".json":
        rows: list[dict[str, str]] = json.loads(file.read_text())
        return rows
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))
