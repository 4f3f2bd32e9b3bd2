"""One question with its truth, and the registry of readers that make lists of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from taid_vlm.common.registry import Registry
from taid_vlm_eval.data.pictures import BrokenImageError, open_picture
from taid_vlm_eval.task import Data


@dataclass(frozen=True)
class Item:
    """A question about zero or more images.

    Attributes:
        id: unique within its task.
        images: in the order the model sees them; a file may turn out to be missing or broken.
        answer: the truth, or several texts of which each is right.
        cluster: items with the same cluster are resampled together for the error bar; empty until a task sets it.
        facts: what else the data says of it, for scorers (options, say) and metrics (category, say).
        broken: why the record cannot be asked; empty for all others. It is reported and counts as wrong.
        bare, hint: the question as the data has it, without hint and options, and the hint, for protocols that put them together
            in their own way; empty where the data does not tell them apart, or has no hint.
    """

    id: str
    question: str
    answer: str | list[str]
    images: list[Path] = field(default_factory=list)
    cluster: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    broken: str = ""
    bare: str = ""
    hint: str = ""


Source = Callable[[Path, Data], Iterable[Item]]  # (file or folder, the task's data) -> items in their fixed order
SOURCES: Registry[Source] = Registry("data source")


def open_images(item: Item) -> list[Image.Image]:
    """Decode an item's images to RGB.

    Raises:
        BrokenImageError: see :func:`open_picture`; or the whole record is broken.
    """
    if item.broken:
        raise BrokenImageError(item.broken)
    return [open_picture(path) for path in item.images]
