"""What may be decoded: a file of a few bytes can state a size of gigabytes, and be no picture but a program."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image

from taid_vlm.common.errors import UserError

VARIABLE = "TAID_VLM_MAX_PIXELS"
USUAL = 100_000_000  # 300 MB as RGB
MOST = 178_956_970  # Pillow refuses more by itself
# Pillow hands these to another program (Ghostscript) or to the system's drawing commands.
NOT_DECODED = ("EPS", "WMF", "EMF")


class TooManyPixelsError(Exception):
    """A picture that is larger than the bound; the message says how large both are."""


def max_pixels() -> int:
    """Width times height of the largest picture that is decoded: ``$TAID_VLM_MAX_PIXELS``, or 100 million.

    Raises:
        UserError: the variable holds something else than such a number.
    """
    text = os.environ.get(VARIABLE) or str(USUAL)
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST):
        raise UserError(f"the environment variable {VARIABLE} is {text!r}, expected a whole number from 1 to {MOST:,}")
    return int(text)


@contextmanager
def opened(stream: BinaryIO, limit: int) -> Iterator[Image.Image]:
    """A picture of which only the head has been read.

    Args:
        limit: see :func:`max_pixels`.

    Raises:
        TooManyPixelsError: more pixels than ``limit``.
        Exception: no picture. Decoders raise many types, and more of them when the rest is read.
    """
    with warnings.catch_warnings():
        # Pillow warns at 89 megapixels and refuses at twice that; the limit here is ours.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(stream) as image:
                check_pixels(image, limit)
                if image.format in NOT_DECODED:
                    raise ValueError(f"a picture of format {image.format}, which another program would have to draw")
                yield image
        except Image.DecompressionBombError as error:
            raise TooManyPixelsError(f"has too many pixels ({error}); the limit is {limit:,} ({VARIABLE})") from error


def check_pixels(image: Image.Image, limit: int) -> None:
    """To be called once more when a picture is decoded: what some formats hold is larger than their head says.

    Raises:
        TooManyPixelsError: more pixels than ``limit``.
    """
    if image.width * image.height > limit:
        raise TooManyPixelsError(f"has {image.width} x {image.height} pixels; the limit is {limit:,} ({VARIABLE})")
