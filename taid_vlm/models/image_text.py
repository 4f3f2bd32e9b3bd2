"""The text that stands for a picture: its tokens, and the markers that a stock processor writes around them.

A marker is a special token where the tokenizer has it as one, and ordinary text where it has not; the stock processors do the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.models.specs import ImagesSpec
from taid_vlm.models.tiling import Grid

INTERNVL = ("<img>", "</img>")
SMOLVLM_AROUND, SMOLVLM_WHOLE = "<fake_token_around_image>", "<global-img>"
LFM2_VL = ("<|image_start|>", "<|image_end|>")


def image_places(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many pictures a conversation asks for."""
    return sum(part["type"] == "image" for m in messages for part in m["content"] if isinstance(part, dict))


def image_text(style: str, tile: str, grid: Grid) -> str:
    """The text of one picture.

    Args:
        style: an ``images.style`` of a student.
        tile: the image token, as often as a tile has tokens.
    """
    return _STYLES[style](tile, grid)


def markers(style: str, largest: Grid) -> tuple[str, ...]:
    """All markers that a style may write for grids up to ``largest``; a user who types one must not open a picture."""
    if style == "internvl":
        return INTERNVL
    if style == "smolvlm":
        cells = [(row, column) for row in range(largest.rows) for column in range(largest.columns)]
        return (SMOLVLM_AROUND, SMOLVLM_WHOLE, *(_cell(row, column) for row, column in cells))
    return LFM2_VL if style == "lfm2_vl" else ()


def check_style(spec: ImagesSpec, token: str, largest: Grid) -> None:
    """Refuse what no stock processor writes.

    Raises:
        UserError: tiles in the style of lfm2_vl, or an image token that is a marker as well.
    """
    if spec.style == "lfm2_vl" and spec.tiling != "none":
        raise UserError(
            f"images.tiling {spec.tiling!r} does not go with style lfm2_vl: its stock processor sizes the thumbnail by the shape of "
            f"the picture, a square one cannot match it. Set tiling: none, or style: internvl"
        )
    if token in markers(spec.style, largest):
        raise UserError(
            f"image_token {token!r} is a marker of images.style {spec.style!r} as well, so pictures could not be told from markers; "
            f"choose another unused special token"
        )


def _plain(tile: str, grid: Grid) -> str:
    return tile * grid.tiles


def _internvl(tile: str, grid: Grid) -> str:
    return INTERNVL[0] + tile * grid.tiles + INTERNVL[1]


def _smolvlm(tile: str, grid: Grid) -> str:
    whole = SMOLVLM_AROUND + SMOLVLM_WHOLE + tile + SMOLVLM_AROUND
    if grid.tiles == 1:
        return whole
    rows = ("".join(SMOLVLM_AROUND + _cell(r, c) + tile for c in range(grid.columns)) for r in range(grid.rows))
    return "".join(row + "\n" for row in rows) + "\n" + whole


def _lfm2_vl(tile: str, grid: Grid) -> str:
    return LFM2_VL[0] + tile * grid.tiles + LFM2_VL[1]


def _cell(row: int, column: int) -> str:
    return f"<row_{row + 1}_col_{column + 1}>"


_STYLES: dict[str, Callable[[str, Grid], str]] = {
    "plain": _plain,
    "internvl": _internvl,
    "smolvlm": _smolvlm,
    "lfm2_vl": _lfm2_vl,
}
