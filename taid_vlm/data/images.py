"""Opening a picture whatever its format, or saying clearly why not."""

import warnings
from pathlib import Path

from PIL import Image, ImageOps

from taid_vlm.data.record import BadSampleError

MAX_PIXELS = 100_000_000


def open_image(path: Path) -> Image.Image:
    """Decode a picture completely, upright (EXIF), as 8-bit RGB; transparency becomes white, the first frame counts.

    Raises:
        BadSampleError: missing, truncated, not a picture, or larger than 100 megapixels.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns at 89 megapixels and refuses at twice that; the limit here is ours.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadSampleError(
                        f"picture {path} has {image.width} x {image.height} pixels; the limit is {MAX_PIXELS:,}"
                    )
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise BadSampleError(f"picture not found: {path}") from error
    except BadSampleError:
        raise
    except Exception as error:  # decoders raise many types: OSError, SyntaxError, ValueError, struct.error, ...
        raise BadSampleError(f"picture cannot be read: {path} ({str(error) or type(error).__name__})") from error


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
