"""Grids and pixels are those of the stock image processors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip.image_processing_siglip import SiglipImageProcessor
from transformers.models.smolvlm.image_processing_pil_smolvlm import (
    SmolVLMImageProcessorPil,
    get_resize_output_image_size,
)
from transformers.models.smolvlm.image_processing_smolvlm import SmolVLMImageProcessor

from taid_vlm.models.images import FILTERS, to_pixel_values
from taid_vlm.models.specs import ImagesSpec
from taid_vlm.models.tiling import Grid, decides_pixels, grid_of, tiles_of
from taid_vlm.models.vision_encoder import ImageInput

SIDE = 32
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
SPECS = {
    "none": ImagesSpec(),
    "dynamic": ImagesSpec(tiling="dynamic", max_tiles=6),
    "split": ImagesSpec(tiling="split", style="smolvlm", longest_edge=90),
}
SQUARE = {"height": SIDE, "width": SIDE}
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {"size": SQUARE},
    "dynamic": {"size": SQUARE, "crop_to_patches": True, "min_patches": 1, "max_patches": 6},
    "split": {"size": {"longest_edge": 90}, "max_image_size": {"longest_edge": SIDE}},
}
sides = st.integers(1, 5000)


class Shapes(SmolVLMImageProcessorPil):
    """The stock splitting with pictures that have a shape and no memory."""

    def resize(self, image: Any, size: Any, resample: Any = None, **_: Any) -> Any:
        edge = size.longest_edge
        height, width = get_resize_output_image_size(image, edge) if edge else (size.height, size.width)
        return blank(width, height)


def blank(width: int, height: int) -> Any:
    return np.broadcast_to(np.uint8(0), (3, height, width))


@settings(max_examples=400, deadline=None)
@given(sides, sides, st.integers(1, 12), st.integers(0, 6), st.sampled_from([224, 448]))
def test_dynamic_grids_are_the_stock_ones(width: int, height: int, most: int, fewer: int, side: int) -> None:
    fewest = max(1, most - fewer)
    columns, rows = get_optimal_tiled_canvas((height, width), (side, side), fewest, most)
    spec = ImagesSpec(tiling="dynamic", min_tiles=fewest, max_tiles=most)
    assert grid_of((width, height), side, spec) == Grid(rows, columns, rows * columns > 1)
    bare = spec.model_copy(update={"thumbnail": False})
    assert grid_of((width, height), side, bare).tiles == rows * columns


@settings(max_examples=400, deadline=None)
@given(sides, sides, st.sampled_from([(224, None), (384, 1536), (512, 2048), (100, 333), (512, 512), (64, 5000)]))
def test_split_grids_are_the_stock_ones(width: int, height: int, edges: tuple[int, int | None]) -> None:
    side, edge = edges
    stock = Shapes(size={"longest_edge": edge or 2 * side}, max_image_size={"longest_edge": side})
    whole_tiles = stock.resize_for_vision_encoder(stock.resize(blank(width, height), stock.size), side)
    frames, rows, columns = stock.split_images(whole_tiles, {"longest_edge": side})
    grid = grid_of((width, height), side, ImagesSpec(tiling="split", style="smolvlm", longest_edge=edge))
    assert grid.tiles == len(frames)
    assert {frame.shape for frame in frames} == {(3, side, side)}
    assert (grid.rows, grid.columns) == ((rows, columns) if rows else (1, 1))


def picture(width: int, height: int) -> Image.Image:
    """Smooth colours with some noise on them."""
    rng = np.random.default_rng(width)
    smooth = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((width, height))
    return Image.fromarray(np.clip(np.asarray(smooth) + rng.integers(-20, 20, (height, width, 3)), 0, 255).astype("u1"))


def ours(image: Image.Image, tiling: str, interpolation: str) -> Any:
    settings = ImageInput(SIDE, MEAN, STD, interpolation)
    return to_pixel_values(tiles_of(image, SIDE, interpolation, SPECS[tiling]), settings).numpy()


def stocks(kind: Any, image: Image.Image, tiling: str, interpolation: str) -> Any:
    processor = kind(
        **SETTINGS[tiling], resample=FILTERS[interpolation].value, image_mean=list(MEAN), image_std=list(STD)
    )
    values = processor(image, return_tensors="np")["pixel_values"]
    return values[0] if values.ndim == 5 else values


@pytest.mark.parametrize("size", [(200, 130), (61, 180), (32, 32), (20, 12), (300, 9), (90, 91)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("kind", "tiling"),
    [
        (SiglipImageProcessorPil, "none"),
        (GotOcr2ImageProcessorPil, "dynamic"),
        (SmolVLMImageProcessorPil, "split"),
        (Idefics3ImageProcessorPil, "split"),
    ],
)
def test_pixels_are_the_stock_ones(kind: Any, tiling: str, interpolation: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    expected = stocks(kind, image, tiling, interpolation)
    np.testing.assert_allclose(ours(image, tiling, interpolation), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("kind", "tiling"),
    [(SiglipImageProcessor, "none"), (GotOcr2ImageProcessor, "dynamic"), (SmolVLMImageProcessor, "split")],
)
def test_torchvision_rounds_otherwise_and_no_more(kind: Any, tiling: str, interpolation: str) -> None:
    image = picture(200, 130)
    values, expected = ours(image, tiling, interpolation), stocks(kind, image, tiling, interpolation)
    steps = np.abs(values - expected) * np.array(STD).reshape(1, 3, 1, 1) * 255
    assert steps.mean() < 0.25
    assert steps.max() < (1.01 if interpolation == "bilinear" else 16)


def test_clip_without_a_crop_and_smolvlm_without_splitting_are_one_square_resize() -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image = picture(200, 130)
    common = {"image_mean": list(MEAN), "image_std": list(STD), "resample": 3}
    clip = CLIPImageProcessorPil(size=SQUARE, do_center_crop=False, **common)
    smolvlm = SmolVLMImageProcessorPil(
        do_resize=False, do_image_splitting=False, max_image_size={"longest_edge": SIDE}, **common
    )
    found = ours(image, "none", "bicubic")
    np.testing.assert_allclose(found, clip(image, return_tensors="np")["pixel_values"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, smolvlm(image, return_tensors="np")["pixel_values"][0], rtol=0, atol=1e-6)


def test_tiles_come_row_after_row_and_the_whole_picture_last() -> None:
    colours = [(40 * i, 0, 255 - 40 * i) for i in range(6)]
    image = Image.fromarray(np.array(colours, dtype=np.uint8).reshape(2, 3, 3))
    spec = ImagesSpec(tiling="dynamic", min_tiles=6, max_tiles=6)
    tiles = tiles_of(image, 8, "nearest", spec)
    assert [tile.getpixel((4, 4)) for tile in tiles[:6]] == colours
    assert [len(tile.getcolors() or []) for tile in tiles] == [1] * 6 + [6]
    assert all(tile.size == (8, 8) for tile in tiles)


def test_only_what_decides_the_pixels_is_compared() -> None:
    plain = ImagesSpec(tiling="dynamic")
    assert decides_pixels(plain) == decides_pixels(ImagesSpec(tiling="dynamic", style="internvl"))
    assert decides_pixels(plain) != decides_pixels(ImagesSpec(tiling="dynamic", max_tiles=7))
    assert decides_pixels(ImagesSpec()) == decides_pixels(ImagesSpec(max_tiles=7))
