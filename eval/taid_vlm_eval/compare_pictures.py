"""Pictures of items inside of a page: scaled down, each encoded once, and never more bytes than a browser likes to open."""

from dataclasses import dataclass
from pathlib import Path

from taid_vlm.common.pages import data_uri
from taid_vlm_eval.data.pictures import BrokenImageError, open_picture

SIDE = 512  # pixels of a picture's longer side
SHOWN = 256  # a smaller picture is shown so large, so that one sees what is on it
BYTES = 48 << 20  # of all pictures of a page


@dataclass(frozen=True)
class Picture:
    """``uri`` is a data URI, or "" where ``why`` says what is missing; width and height are those it is shown with."""

    uri: str = ""
    width: int = 0
    height: int = 0
    why: str = ""


class Pictures:
    """The pictures of one page.

    Args:
        budget: bytes of data URIs that may be given away; a picture that a page shows twice counts twice.
    """

    def __init__(self, budget: int = BYTES) -> None:
        self.left = budget
        self._made: dict[Path, Picture] = {}

    def get(self, path: Path) -> Picture:
        """A picture of a data set, or why there is none."""
        if path not in self._made:
            self._made[path] = _made(path)
        made = self._made[path]
        if len(made.uri) > self.left:
            return Picture(why="left out, for this page has as many bytes of pictures as it may; show fewer items")
        self.left -= len(made.uri)
        return made


def _made(path: Path) -> Picture:
    try:
        image = open_picture(path)
    except BrokenImageError as error:
        return Picture(why=str(error))
    image.thumbnail((SIDE, SIDE))
    larger = max(1.0, SHOWN / max(image.size))
    width, height = (max(1, round(side * larger)) for side in image.size)
    return Picture(data_uri(image), width, height)
