"""Pictures as the models take them in: the very tiles that their processors cut, put side by side again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from taid_vlm.data.images import open_image
from taid_vlm.data.pictures import Picture
from taid_vlm.models.native.processor import NativeProcessor
from taid_vlm.models.processor import ImageTokens, Processor
from taid_vlm.models.tiling import decides_pixels, grid_of
from taid_vlm.preview.native_tiles import native_tiles
from taid_vlm.preview.schema import Cut, PictureView

LONGEST = 480  # pixels of a picture that is shown
SMALLEST = 160  # a smaller one is enlarged without smoothing, so that its pixels can be seen
GAP = 4  # pixels between tiles
GAP_COLOUR = (255, 0, 160)  # rare in photographs, and seen on white as on black


def picture_view(picture: Picture, processors: Mapping[str, Any], together: int = 1) -> PictureView:
    """Open a picture and cut it as each model does; equal cuts are one.

    Args:
        processors: by the name of the model.
        together: how many pictures the sample has.

    Raises:
        BadSampleError: the picture cannot be read.
    """
    image = open_image(picture)
    cuts: dict[Any, Cut] = {}
    for name, processor in processors.items():
        if isinstance(processor, NativeProcessor):
            cuts[name] = _native_cut(name, processor, image, together)
        elif processor.images is not None:
            images = processor.images
            key = (images.input.size, images.input.interpolation, *decides_pixels(images.spec))
            known = cuts.get(key)
            cuts[key] = (
                replace(known, names=(*known.names, name)) if known else _own_cut(name, processor, images, image)
            )
    return PictureView(str(picture), image.size, fitted(image), list(cuts.values()))


def _own_cut(name: str, processor: Processor, images: ImageTokens, image: Image.Image) -> Cut:
    grid = grid_of(image.size, images.input.size, images.spec)
    tiles = processor.tiles(image)
    cells = "one tile" if grid.tiles == 1 else f"{grid.rows} x {grid.columns} tiles"
    whole = " and the whole picture" if grid.whole else ""
    return Cut(
        (name,),
        len(tiles),
        f"{cells}{whole}, {'each ' if len(tiles) > 1 else ''}{_size(tiles)} pixels",
        mosaic(tiles[: grid.rows * grid.columns], grid.columns),
        fitted(tiles[-1], LONGEST // 2) if grid.whole else None,
    )


def _native_cut(name: str, processor: NativeProcessor, image: Image.Image, together: int) -> Cut:
    tiles = native_tiles(processor, image, together)
    text = f"{len(tiles)} tiles in the order of their tokens, each" if len(tiles) > 1 else "one tile of"
    shown = mosaic(tiles, math.ceil(math.sqrt(len(tiles))))
    return Cut((name,), len(tiles), f"{text} {_size(tiles)} pixels", shown, None)


def mosaic(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Equal tiles row by row with gaps between them, made smaller where they would take too much room."""
    if len(tiles) == 1:
        return fitted(tiles[0])
    rows = math.ceil(len(tiles) / columns)
    width, height = tiles[0].size
    scale = min(1.0, (LONGEST / columns - GAP) / width, (LONGEST / rows - GAP) / height)
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    canvas = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), GAP_COLOUR)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        canvas.paste(tile.resize((width, height)), (column * (width + GAP), row * (height + GAP)))
    return canvas


def fitted(image: Image.Image, longest: int = LONGEST) -> Image.Image:
    """The picture in a size that is fit to be shown."""
    if max(image.size) > longest:
        scale = longest / max(image.size)
        return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    times = SMALLEST // max(image.size)
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST) if times > 1 else image


def _size(tiles: Sequence[Image.Image]) -> str:
    return f"{tiles[0].width} x {tiles[0].height}"
