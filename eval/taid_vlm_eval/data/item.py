"""One question with its truth, and the registry of readers that make lists of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from taid_vlm.common.registry import Registry


@dataclass(frozen=True)
class Item:
    """A question about zero or more images.

    Attributes:
        id: unique within its task.
        images: in the order the model sees them; a file may turn out to be missing or broken.
        answer: the truth, or several texts of which each is right.
        cluster: items with the same cluster are resampled together for the error bar; empty until a task sets it.
    """

    id: str
    question: str
    answer: str | list[str]
    images: list[Path] = field(default_factory=list)
    cluster: str = ""


Source = Callable[[Path, str], list[Item]]  # (file or folder, split) -> items in their fixed order
SOURCES: Registry[Source] = Registry("data source")


class BrokenImageError(Exception):
    """An image that cannot be decoded; the item is reported and counts as wrong."""


def open_images(item: Item) -> list[Image.Image]:
    """Decode an item's images to RGB (palette, alpha, grey and CMYK are converted).

    Raises:
        BrokenImageError: a file is missing, not an image, cut short, or absurdly large.
    """
    images = []
    for path in item.images:
        try:
            with Image.open(path) as image:
                images.append(image.convert("RGB"))
        # Pillow raises SyntaxError and ValueError on some damaged files, and refuses decompression bombs.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = "missing" if isinstance(error, FileNotFoundError) else f"unreadable ({type(error).__name__})"
            raise BrokenImageError(f"image {path.name} is {reason}") from error
    return images
