"""Decode pictures exactly as the training side does: a model is asked about what it was trained on."""

from pathlib import Path

from PIL import Image

from taid_vlm.common.files import open_plain
from taid_vlm.common.picture_bounds import TooManyPixelsError, max_pixels, opened
from taid_vlm.common.picture_rgb import decoded


class BrokenImageError(Exception):
    """An image that cannot be decoded; the item is reported and counts as wrong."""


def open_picture(path: Path) -> Image.Image:
    """Upright (EXIF), 8-bit RGB, transparency on white, 16 bits scaled, the first frame.

    Raises:
        BrokenImageError: a file is missing, not an image, cut short, or larger than :func:`max_pixels` allows.
    """
    limit = max_pixels()
    try:
        with open_plain(path) as stream, opened(stream, limit) as image:
            return decoded(image, limit)
    except FileNotFoundError as error:
        raise BrokenImageError(f"image {path.name} is missing") from error
    except TooManyPixelsError as error:
        raise BrokenImageError(f"image {path.name} is too large: it {error}") from error
    except (BrokenImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise many types: OSError, SyntaxError, ValueError, struct.error, ...
        raise BrokenImageError(f"image {path.name} is unreadable ({type(error).__name__})") from error
