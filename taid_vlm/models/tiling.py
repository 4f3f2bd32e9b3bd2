"""How a picture is cut into square tiles: the grid, and the tiles in the order of their tokens.

Sizes are (width, height) in pixels, as in Pillow. Every rounding is that of the stock image processor which an exported student is read with:
``dynamic`` is GotOcr2ImageProcessor (InternVL), ``split`` is SmolVLMImageProcessor (the same as Idefics3ImageProcessor), ``none`` is any
stock processor that resizes to a square without cropping.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import Image

from taid_vlm.models.images import FILTERS
from taid_vlm.models.specs import ImagesSpec

LONGEST = 4096  # the stock split never resizes a picture beyond it

Size = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """Rows and columns of tiles; ``whole`` when a tile of the whole picture follows them."""

    rows: int
    columns: int
    whole: bool = False

    @property
    def tiles(self) -> int:
        """All tiles of the picture."""
        return self.rows * self.columns + int(self.whole)


def grid_of(size: Size, side: int, spec: ImagesSpec) -> Grid:
    """The grid for a picture of ``size``; ``side`` is that of a tile.

    Nothing but the size decides, so that a conversation can be rendered before its pictures are decoded.
    """
    if spec.tiling == "dynamic":
        columns, rows = _nearest_grid(size, side, spec.min_tiles, spec.max_tiles)
        return Grid(rows, columns, whole=spec.thumbnail and rows * columns > 1)
    if spec.tiling == "split":
        width, height = _whole_tiles(_on_longest_edge(size, longest_edge(side, spec)), side)
        return Grid(height // side, width // side, whole=width > side or height > side)
    return Grid(1, 1)


def tiles_of(image: Image.Image, side: int, interpolation: str, spec: ImagesSpec) -> list[Image.Image]:
    """The tiles ``side`` x ``side`` of an RGB picture: row after row, the whole picture last where it belongs to them."""
    grid, filter_ = grid_of(image.size, side, spec), FILTERS[interpolation]
    source = image
    if spec.tiling == "split":
        # The stock split resizes three times, each from the one before, and the pixels show it.
        image = image.resize(_on_longest_edge(image.size, longest_edge(side, spec)), filter_)
    canvas = image.resize((side * grid.columns, side * grid.rows), filter_)
    if grid.tiles == 1:
        return [canvas]
    corners = [(side * column, side * row) for row in range(grid.rows) for column in range(grid.columns)]
    tiles = [canvas.crop((left, top, left + side, top + side)) for left, top in corners]
    if grid.whole:
        tiles.append((canvas if spec.tiling == "split" else source).resize((side, side), filter_))
    return tiles


def longest_edge(side: int, spec: ImagesSpec) -> int:
    """To how many pixels ``split`` resizes the longer side first."""
    return 2 * side if spec.longest_edge is None else spec.longest_edge


def decides_pixels(spec: ImagesSpec) -> tuple[Any, ...]:
    """What of a spec decides the tiles: two specs with equal values share features, whatever text stands around."""
    if spec.tiling == "dynamic":
        return (spec.tiling, spec.min_tiles, spec.max_tiles, spec.thumbnail)
    return (spec.tiling, spec.longest_edge) if spec.tiling == "split" else (spec.tiling,)


@lru_cache(maxsize=8)
def _grids(fewest: int, most: int) -> list[tuple[int, int]]:
    # Fewer tiles first; among grids of as many tiles the narrow ones first. The choice among equals depends on this order.
    pairs = [(i, j) for i in range(1, most + 1) for j in range(1, most + 1) if fewest <= i * j <= most]
    return sorted(pairs, key=lambda pair: pair[0] * pair[1])


def _nearest_grid(size: Size, side: int, fewest: int, most: int) -> tuple[int, int]:
    width, height = size
    best, nearest = (1, 1), math.inf
    for columns, rows in _grids(fewest, most):
        distance = abs(width / height - columns / rows)
        fills_half = width * height > 0.5 * side * side * columns * rows
        if distance < nearest or (distance == nearest and fills_half):
            best, nearest = (columns, rows), distance
    return best


def _on_longest_edge(size: Size, edge: int) -> Size:
    width, height = size
    ratio = width / height
    if width >= height:
        width, height = edge, _even(int(edge / ratio))
    else:
        width, height = _even(int(edge * ratio)), edge
    width, height = max(width, 1), max(height, 1)
    ratio = width / height
    if width >= height and width > LONGEST:
        width, height = LONGEST, int(LONGEST / ratio)
    elif height > width and height > LONGEST:
        width, height = int(LONGEST * ratio), LONGEST
    return max(width, 1), max(height, 1)


def _whole_tiles(size: Size, side: int) -> Size:
    width, height = size
    ratio = width / height
    if width >= height:
        width = _up(width, side)
        return width, _up(int(width / ratio), side)
    height = _up(height, side)
    return _up(int(height * ratio), side), height


def _even(length: int) -> int:
    return length + length % 2


def _up(length: int, side: int) -> int:
    return math.ceil(length / side) * side
