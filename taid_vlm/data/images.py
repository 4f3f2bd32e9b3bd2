"""Opening a picture whatever its format, or saying clearly why not."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import ExifTags, Image

from taid_vlm.common.picture_bounds import TooManyPixelsError, max_pixels, opened
from taid_vlm.common.picture_rgb import decoded
from taid_vlm.data.pictures import Picture, open_stream
from taid_vlm.data.record import BadSampleError

LONGEST_NAME = 400  # of a picture in a message; what a file says is a path may be anything
# Formats whose size and orientation are known before any pixel is decoded.
HEADER_SAYS_ALL = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP")


def open_image(picture: Picture) -> Image.Image:
    """Decode a picture completely, upright (EXIF), as 8-bit RGB; transparency becomes white, the first frame counts.

    Raises:
        BadSampleError: missing, truncated, not a picture, or larger than :func:`max_pixels` allows.
    """
    limit = max_pixels()
    with _opened(picture, limit) as (image, _):
        return decoded(image, limit)


def image_size(picture: Picture) -> tuple[int, int]:
    """(width, height) of what :func:`open_image` gives, from the file's header where that says it.

    Raises:
        BadSampleError: missing, not a picture, or larger than :func:`max_pixels` allows. What is broken further on shows when it
            is opened.
    """
    with _opened(picture, max_pixels()) as (image, stream):
        if image.format in HEADER_SAYS_ALL and not (image.format == "PNG" and _png_has_late_chunks(stream)):
            # Not getexif() of the format's own class: that of PNG decodes all pixels, in search of late chunks.
            turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else image.size
    return open_image(picture).size


@contextmanager
def _opened(picture: Picture, limit: int) -> Iterator[tuple[Image.Image, BinaryIO]]:
    try:
        with open_stream(picture) as stream, opened(stream, limit) as image:
            yield image, stream
    except FileNotFoundError as error:
        raise BadSampleError(f"picture not found: {_short(str(picture))}", "picture not found") from error
    except BadSampleError:
        raise
    except TooManyPixelsError as error:
        raise BadSampleError(f"picture {_short(str(picture))} {error}", "picture too large") from error
    except Exception as error:  # decoders raise many types: OSError, SyntaxError, ValueError, struct.error, ...
        why = _short(str(error) or type(error).__name__)
        message = f"picture cannot be read: {_short(str(picture))} ({why})"
        raise BadSampleError(message, "broken picture") from error


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME // 2]}...{text[-LONGEST_NAME // 2 :]}"


def _png_has_late_chunks(file: BinaryIO) -> bool:
    # The orientation may stand behind the pixels. Their chunks are skipped, not read.
    file.seek(8)
    seen_pixels = False
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if seen_pixels and kind not in (b"IDAT", b"fdAT", b"fcTL", b"IEND"):
            return True
        seen_pixels = seen_pixels or kind == b"IDAT"
        file.seek(length + 4, 1)
    return False
