"""Projectors that first join ``factor`` x ``factor`` neighbours, so that a picture costs fewer tokens."""

import torch
from torch import Tensor, nn

from taid_vlm.models.projectors.registry import PROJECTORS, at_least, probe_shape, scale_last
from taid_vlm.models.projectors.space_to_depth import check_factor, space_to_depth
from taid_vlm.models.vision_encoder import EncoderContract


def fitting_classes(contract: EncoderContract, factor: int, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The native classes that take this grid and factor.

    All but Lfm2Vl take the root of the number of tokens for the side, so they need a square; InternVL stores 1/factor
    and tests the grid with a float remainder, which only a power of two passes for certain.
    """
    square = contract.grid[0] == contract.grid[1]
    power_of_two = factor & (factor - 1) == 0
    fits = {"smolvlm": square, "idefics3": square, "internvl": square and power_of_two, "lfm2_vl": True}
    return tuple(name for name in classes if fits[name])


@PROJECTORS.register("pixel_shuffle_linear")
class PixelShuffleLinear(nn.Module):
    """Space to depth, then one linear map without bias: the connector of Idefics3 (arXiv 2408.12637) and
    SmolVLM (arXiv 2504.05299).

    Options:
        factor: side of the blocks that become one token; 1 is a plain linear map.
    """

    native_classes: tuple[str, ...] = ("smolvlm", "idefics3")

    def __init__(self, contract: EncoderContract, hidden_size: int, *, factor: int = 2) -> None:
        super().__init__()
        check_factor("pixel_shuffle_linear", contract, factor)
        self.contract, self.factor = contract, factor
        self.native_classes = fitting_classes(contract, factor, type(self).native_classes)
        width_in = contract.feature_dim * factor**2
        self.modality_projection = nn.ModuleDict({"proj": nn.Linear(width_in, hidden_size, bias=False)})

    def forward(self, features: Tensor) -> Tensor:
        """``[images, rows * cols, feature_dim]`` to ``[images, rows/factor * cols/factor, hidden_size]``."""
        return self.modality_projection["proj"](space_to_depth(features, self.contract.grid, self.factor))

    def tokens_out(self) -> int:
        """One for each block of cells."""
        return self.contract.grid[0] * self.contract.grid[1] // self.factor**2

    @torch.no_grad()
    def start(self, embedding_std: float) -> None:
        """Outputs as large as the token embeddings, for features of unit variance."""
        weight: Tensor = self.modality_projection["proj"].weight  # type: ignore[assignment]
        nn.init.normal_(weight, std=embedding_std / weight.shape[1] ** 0.5)


@PROJECTORS.register("pixel_shuffle_mlp")
class PixelShuffleMLP(nn.Module):
    """Space to depth, LayerNorm if asked for, Linear, GELU, Linear: the projector of LFM2-VL (arXiv 2511.23404).

    With the LayerNorm and the language model's width it is InternVL's too.

    Options:
        factor: side of the blocks that become one token.
        width: of the middle layer; the language model's when left out.
        layernorm: normalise before the first layer.
    """

    native_classes: tuple[str, ...] = ("lfm2_vl", "internvl")

    def __init__(
        self,
        contract: EncoderContract,
        hidden_size: int,
        *,
        factor: int = 2,
        width: int | None = None,
        layernorm: bool = False,
    ) -> None:
        super().__init__()
        width = hidden_size if width is None else width
        check_factor("pixel_shuffle_mlp", contract, factor)
        at_least("pixel_shuffle_mlp", width=width)
        self.contract, self.factor = contract, factor
        internvl = ("internvl",) if layernorm and width == hidden_size else ()
        self.native_classes = fitting_classes(contract, factor, ("lfm2_vl", *internvl))
        width_in = contract.feature_dim * factor**2
        self.layer_norm = nn.LayerNorm(width_in) if layernorm else None
        self.linear_1 = nn.Linear(width_in, width)
        self.linear_2 = nn.Linear(width, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """``[images, rows * cols, feature_dim]`` to ``[images, rows/factor * cols/factor, hidden_size]``."""
        blocks = space_to_depth(features, self.contract.grid, self.factor)
        if self.layer_norm is not None:
            blocks = self.layer_norm(blocks)
        return self.linear_2(nn.functional.gelu(self.linear_1(blocks)))

    def tokens_out(self) -> int:
        """One for each block of cells."""
        return self.contract.grid[0] * self.contract.grid[1] // self.factor**2

    @torch.no_grad()
    def start(self, embedding_std: float) -> None:
        """Outputs as large as the token embeddings, for features of unit variance."""
        self.linear_2.bias.zero_()
        scale_last(self, self.linear_2, probe_shape(self.contract), embedding_std)


@PROJECTORS.register("ln_pixel_shuffle_mlp")
class LNPixelShuffleMLP(nn.Module):
    """Space to depth, LayerNorm, Linear, GELU, Linear, as wide as the language model: ``mlp1`` of InternVL
    (arXiv 2404.16821; the LayerNorm is in the released code).

    Options:
        factor: side of the blocks that become one token; InternVL's ``downsample_ratio`` is 1/factor.
    """

    native_classes: tuple[str, ...] = ("internvl", "lfm2_vl")

    def __init__(self, contract: EncoderContract, hidden_size: int, *, factor: int = 2) -> None:
        super().__init__()
        check_factor("ln_pixel_shuffle_mlp", contract, factor)
        self.contract, self.factor = contract, factor
        self.native_classes = fitting_classes(contract, factor, type(self).native_classes)
        width_in = contract.feature_dim * factor**2
        self.layer_norm = nn.LayerNorm(width_in)
        self.linear_1 = nn.Linear(width_in, hidden_size)
        self.linear_2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """``[images, rows * cols, feature_dim]`` to ``[images, rows/factor * cols/factor, hidden_size]``."""
        blocks = self.layer_norm(space_to_depth(features, self.contract.grid, self.factor))
        return self.linear_2(nn.functional.gelu(self.linear_1(blocks)))

    def tokens_out(self) -> int:
        """One for each block of cells."""
        return self.contract.grid[0] * self.contract.grid[1] // self.factor**2

    @torch.no_grad()
    def start(self, embedding_std: float) -> None:
        """Outputs as large as the token embeddings."""
        self.linear_2.bias.zero_()
        scale_last(self, self.linear_2, probe_shape(self.contract), embedding_std)
