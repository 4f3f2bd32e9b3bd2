"""Projectors that average neighbours after an MLP, so that a picture costs fewer tokens."""

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.models.projectors.registry import PROJECTORS, at_least, probe_shape, scale_last
from taid_vlm.models.projectors.space_to_depth import need_grid_only
from taid_vlm.models.vision_encoder import EncoderContract


def pooled_grid(name: str, contract: EncoderContract, ratio: int) -> tuple[int, int]:
    """Rows and columns after pooling; a remainder is spread over overlapping windows, as adaptive pooling does.

    Raises:
        UserError: nothing would be left, or there are tokens beside the grid.
    """
    need_grid_only(name, contract)
    at_least(name, ratio=ratio)
    rows, cols = contract.grid
    if ratio > min(rows, cols):
        raise UserError(
            f"projector {name!r} with ratio {ratio} leaves no token: an image of {contract.image.size} x "
            f"{contract.image.size} pixels gives a grid of {rows} x {cols} tokens; set ratio to {min(rows, cols)} or less"
        )
    return rows // ratio, cols // ratio


def pool(tokens: Tensor, grid: tuple[int, int], pooled: tuple[int, int]) -> Tensor:
    """Tokens ``[images, rows * cols, H]`` to a map ``[images, H, pooled rows, pooled cols]`` of averages."""
    maps = tokens.transpose(1, 2).unflatten(2, grid)
    return maps if grid == pooled else nn.functional.adaptive_avg_pool2d(maps, pooled)


@PROJECTORS.register("mlp_avg_pool")
class MLPAvgPool(nn.Module):
    """Linear, GELU, Linear, then average pooling: the projector of PerceptionLM (arXiv 2504.13180).

    Options:
        ratio: how many times smaller each side of the grid becomes, rounded down; 1 is no pooling.
    """

    native_classes: tuple[str, ...] = ("perception_lm",)

    def __init__(self, contract: EncoderContract, hidden_size: int, *, ratio: int = 2) -> None:
        super().__init__()
        self.pooled = pooled_grid("mlp_avg_pool", contract, ratio)
        self.contract, self.ratio = contract, ratio
        if ratio > 1 and contract.grid[0] != contract.grid[1]:
            self.native_classes = ()  # the native pooling takes the root of the number of tokens for the side
        self.linear_1 = nn.Linear(contract.feature_dim, hidden_size)
        self.linear_2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """``[images, rows * cols, feature_dim]`` to ``[images, rows//ratio * cols//ratio, hidden_size]``."""
        # Tokens are outermost in memory, as in the native class: the order in which averages are summed follows it.
        tokens = self.linear_2(nn.functional.gelu(self.linear_1(features.transpose(0, 1)))).transpose(0, 1)
        return pool(tokens, self.contract.grid, self.pooled).flatten(2).transpose(1, 2)

    def tokens_out(self) -> int:
        """One for each pooled cell."""
        return self.pooled[0] * self.pooled[1]

    @torch.no_grad()
    def start(self, embedding_std: float) -> None:
        """Outputs as large as the token embeddings, for features of unit variance."""
        self.linear_2.bias.zero_()
        scale_last(self, self.linear_2, probe_shape(self.contract), embedding_std)


@PROJECTORS.register("ldp_v2")
class LDPv2(nn.Module):
    """Linear, GELU, Linear, average pooling, and a depthwise 3 x 3 convolution added to its input, which tells tokens
    where they are (MobileVLM V2, arXiv 2402.03766). transformers has no class for it.

    Options:
        ratio: how many times smaller each side of the grid becomes, rounded down; 2 as in the paper (24 to 12).
    """

    native_classes: tuple[str, ...] = ()

    def __init__(self, contract: EncoderContract, hidden_size: int, *, ratio: int = 2) -> None:
        super().__init__()
        self.pooled = pooled_grid("ldp_v2", contract, ratio)
        self.contract, self.ratio = contract, ratio
        self.linear_1 = nn.Linear(contract.feature_dim, hidden_size)
        self.linear_2 = nn.Linear(hidden_size, hidden_size)
        self.peg = nn.Conv2d(hidden_size, hidden_size, kernel_size=3, padding=1, groups=hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """``[images, rows * cols, feature_dim]`` to ``[images, rows//ratio * cols//ratio, hidden_size]``."""
        tokens = self.linear_2(nn.functional.gelu(self.linear_1(features)))
        maps = pool(tokens, self.contract.grid, self.pooled)
        return (self.peg(maps) + maps).flatten(2).transpose(1, 2)

    def tokens_out(self) -> int:
        """One for each pooled cell."""
        return self.pooled[0] * self.pooled[1]

    @torch.no_grad()
    def start(self, embedding_std: float) -> None:
        """Outputs as large as the token embeddings, for features of unit variance."""
        self.linear_2.bias.zero_()
        self.peg.bias.zero_()  # type: ignore[union-attr]  # it has one
        scale_last(self, self.linear_2, probe_shape(self.contract), embedding_std)
