"""Opening a picture whatever its format, or saying clearly why not."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import ExifTags, Image, ImageOps

from taid_vlm.data.pictures import Picture, open_stream
from taid_vlm.data.record import BadSampleError

MAX_PIXELS = 100_000_000
LONGEST_NAME = 400  # of a picture in a message; what a file says is a path may be anything
# Formats whose size and orientation are known before any pixel is decoded.
HEADER_SAYS_ALL = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP")


def open_image(picture: Picture) -> Image.Image:
    """Decode a picture completely, upright (EXIF), as 8-bit RGB; transparency becomes white, the first frame counts.

    Raises:
        BadSampleError: missing, truncated, not a picture, or larger than 100 megapixels.
    """
    with _opened(picture) as (image, _):
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))


def image_size(picture: Picture) -> tuple[int, int]:
    """(width, height) of what :func:`open_image` gives, from the file's header where that says it.

    Raises:
        BadSampleError: missing, not a picture, or larger than 100 megapixels. What is broken further on shows when it is opened.
    """
    with _opened(picture) as (image, stream):
        if image.format in HEADER_SAYS_ALL and not (image.format == "PNG" and _png_has_late_chunks(stream)):
            # Not getexif() of the format's own class: that of PNG decodes all pixels, in search of late chunks.
            turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else image.size
    return open_image(picture).size


@contextmanager
def _opened(picture: Picture) -> Iterator[tuple[Image.Image, BinaryIO]]:
    try:
        with warnings.catch_warnings():
            # Pillow warns at 89 megapixels and refuses at twice that; the limit here is ours.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with open_stream(picture) as stream, Image.open(stream) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadSampleError(
                        f"picture {_short(str(picture))} has {image.width} x {image.height} pixels; the limit is {MAX_PIXELS:,}",
                        "picture too large",
                    )
                yield image, stream
    except FileNotFoundError as error:
        raise BadSampleError(f"picture not found: {_short(str(picture))}", "picture not found") from error
    except BadSampleError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, which lies above ours
        message = f"picture {_short(str(picture))} has too many pixels ({error}); the limit is {MAX_PIXELS:,}"
        raise BadSampleError(message, "picture too large") from error
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
