"""Decode pictures exactly as the training side does: a model is asked about what it was trained on.

This is a copy of what ``taid_vlm.data`` does, since the evaluation must run with the training side absent; a test
compares the two pixel by pixel.
"""

import warnings
from pathlib import Path

from PIL import Image, ImageOps

MAX_PIXELS = 100_000_000


class BrokenImageError(Exception):
    """An image that cannot be decoded; the item is reported and counts as wrong."""


def open_picture(path: Path) -> Image.Image:
    """Upright (EXIF), 8-bit RGB, transparency on white, 16 bits scaled, the first frame.

    Raises:
        BrokenImageError: a file is missing, not an image, cut short, or larger than 100 megapixels.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns at 89 megapixels and refuses at twice that; the limit here is ours.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BrokenImageError(f"image {path.name} is too large ({image.width} x {image.height} pixels)")
                image.load()
                return as_rgb(image)
    except FileNotFoundError as error:
        raise BrokenImageError(f"image {path.name} is missing") from error
    except (BrokenImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise many types: OSError, SyntaxError, ValueError, struct.error, ...
        raise BrokenImageError(f"image {path.name} is unreadable ({type(error).__name__})") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """What :func:`open_picture` makes of a picture that is open already."""
    return _to_rgb(ImageOps.exif_transpose(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image.copy()
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow clips 16-bit values to 255 instead of scaling them.
        low, high = (0.0, 65535.0) if image.mode != "F" else (float(v) for v in image.getextrema())  # type: ignore[arg-type]
        scale = 255.0 / max(high - low, 1e-9)
        return image.convert("F").point(lambda v: (v - low) * scale).convert("L").convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
