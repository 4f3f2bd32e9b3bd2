"""A decoded picture as every model here sees it, in training and in evaluation."""

from PIL import Image, ImageOps

from taid_vlm.common.picture_bounds import check_pixels


def decoded(image: Image.Image, limit: int) -> Image.Image:
    """All of an opened picture, as :func:`as_rgb` gives it.

    Raises:
        TooManyPixelsError: it holds more pixels than ``limit``, whatever its head says.
        Exception: it is broken; decoders raise many types.
    """
    image.load()
    check_pixels(image, limit)
    return as_rgb(image)


def as_rgb(image: Image.Image) -> Image.Image:
    """Upright (EXIF), 8-bit RGB, transparency on white, 16 bits scaled, the first frame."""
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
