"""Space to depth ("pixel shuffle"): neighbouring tokens become channels of one token."""

from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.models.vision_encoder import EncoderContract


def space_to_depth(features: Tensor, grid: tuple[int, int], factor: int) -> Tensor:
    """``[images, rows * cols, C]`` to ``[images, rows/factor * cols/factor, factor^2 * C]``.

    Channels of the result run over the row in the block, then the column in it, then C: the order of SmolVLM and
    Idefics3, of InternVL (``ps_version`` v2) and of LFM2-VL. torch's own pixel_unshuffle has C outermost.
    """
    rows, cols = grid
    blocks = features.unflatten(1, (rows // factor, factor, cols // factor, factor))
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)


def check_factor(name: str, contract: EncoderContract, factor: int) -> None:
    """Refuse grids that ``factor`` does not divide, and tokens beside the grid.

    Raises:
        UserError: the sizes, and which factors or image sizes would fit.
    """
    need_grid_only(name, contract)
    if factor < 1:
        raise UserError(f"option factor of projector {name!r} is {factor}, expected 1 or more")
    rows, cols = contract.grid
    if rows % factor == 0 and cols % factor == 0:
        return
    fitting = [f for f in range(2, min(rows, cols) + 1) if rows % f == 0 and cols % f == 0]
    ways = [f"factor to {' or '.join(map(str, fitting or [1]))}"]
    if rows == cols:
        cell = contract.image.size // rows
        below = rows // factor * factor * cell
        sizes = [size for size in (below, below + factor * cell) if size > 0]
        ways.append(f"image_size to {' or '.join(map(str, sizes))} (cells of {cell} pixels)")
    raise UserError(
        f"projector {name!r} with factor {factor} does not fit: an image of {contract.image.size} x {contract.image.size} "
        f"pixels gives a grid of {rows} x {cols} tokens, which {factor} does not divide; set {', or '.join(ways)}"
    )


def need_grid_only(name: str, contract: EncoderContract) -> None:
    """Refuse class and register tokens, which have no place in the grid.

    Raises:
        UserError: there are some.
    """
    if contract.prefix_tokens:
        raise UserError(
            f"projector {name!r} joins neighbours of the grid, and the encoder keeps {contract.prefix_tokens} class or "
            f"register tokens, which have none: set prefix_tokens: drop in vision_encoder"
        )
