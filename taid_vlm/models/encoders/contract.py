"""What every encoder states about itself, and what a library hands over."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError

Feature = Literal["normed"] | int
Layout = Literal["NLC", "NCHW", "NHWC"]


@dataclass(frozen=True)
class ImageInput:
    """What the encoder expects of a picture: side in pixels, per-channel mean and std of values in [0, 1], filter."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


@dataclass(frozen=True)
class EncoderContract:
    """What the other parts need to know of an encoder.

    Attributes:
        feature_dim: width of a token.
        grid: rows and columns of tokens, in row order.
        image: preprocessing.
        prefix_tokens: class and register tokens kept before those of the grid; 0 where they are dropped.
        layout: how the source gives its features: NLC (tokens), NCHW or NHWC (a map); what comes out of the encoder
            is tokens.
        family: exact name of the architecture, for exports: transformers' model_type of the tower, or timm_vit,
            timm_cnn, timm_other, open_clip_vit, open_clip_timm, open_clip_other; of a plug-in any other name.
        feature: what is read: "normed", or a block counted from the end (-1 is the last), without the final norm.
        source_prefix_tokens: class and register tokens that the source itself puts before the grid, kept or dropped.
    """

    feature_dim: int
    grid: tuple[int, int]
    image: ImageInput
    prefix_tokens: int = 0
    layout: Layout = "NLC"
    family: str = ""
    feature: Feature = "normed"
    source_prefix_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Of a picture: those kept in front, and the grid's."""
        return self.prefix_tokens + self.grid[0] * self.grid[1]


Read = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Source:
    """A backbone as a library gives it.

    Attributes:
        backbone: the module.
        read: ``(backbone, pixel_values [images, 3, size, size])`` to features: ``[images, prefix + cells, feature_dim]``
            for layout NLC, or the map itself.
        image: preprocessing.
        family: see :class:`EncoderContract`.
        prefix_tokens: class and register tokens in front of the cells.
        timm_model: name and arguments with which ``timm.create_model`` builds the backbone again, if it is timm's.
        shape: what comes out for one picture, without the axis of pictures, where it is known already: reading a black
            picture tells it otherwise. On the meta device some towers of transformers cannot be run.
    """

    backbone: nn.Module
    read: Read
    image: ImageInput
    family: str
    prefix_tokens: int = 0
    layout: Layout = "NLC"
    timm_model: tuple[str, dict[str, Any]] | None = None
    shape: tuple[int, ...] | None = None


def check_block(name: str, feature: Feature, blocks: int) -> None:
    """Refuse a block that the encoder does not have.

    Raises:
        UserError: how many blocks there are.
    """
    if feature != "normed" and not -blocks <= feature <= -1:
        raise UserError(
            f"vision_encoder.feature is {feature}, but {name!r} has {blocks} blocks: set normed, or a number from -1 (output "
            f"of the last block) to -{blocks} (of the first)"
        )


def first_line(error: BaseException) -> str:
    """What another library says, short enough for a sentence of ours."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@torch.no_grad()
def shape_of_features(name: str, backbone: nn.Module, read: Read, size: int) -> tuple[int, ...]:
    """What ``read`` makes of one black picture, without the axis of pictures.

    Raises:
        UserError: the backbone does not take pictures of this size.
    """
    backbone.eval()
    black = next(backbone.parameters()).new_zeros(1, 3, size, size)
    try:
        return tuple(read(backbone, black).shape[1:])
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(
            f"the vision encoder {name!r} does not take pictures of {size} x {size}: {first_line(error)}. Choose "
            f"another image_size"
        ) from error
