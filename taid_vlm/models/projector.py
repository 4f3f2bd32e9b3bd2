"""Projectors: from encoder features to the language model's embedding space.

Each has the arithmetic and the parameter names of a class that transformers ships (named in ``native_classes``), so that exporting a
trained student is a renaming. Registered under exact names.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from taid_vlm.common.registry import Registry
from taid_vlm.models.vision_encoder import EncoderContract


class Projector(Protocol):
    """What a projector offers beside being an ``nn.Module``."""

    native_classes: tuple[str, ...]

    def tokens_out(self, grid: tuple[int, int]) -> int:
        """Number of tokens that come out of a grid of features."""
        ...


PROJECTORS: Registry[type[nn.Module]] = Registry("projector")


@PROJECTORS.register("mlp")
class MLPProjector(nn.Module):
    """Linear, GELU, Linear, as wide as the language model (LLaVA-1.5, arXiv 2310.03744, section 3.2)."""

    native_classes = ("fast_vlm", "llava", "deepseek_vl")

    def __init__(self, feature_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(feature_dim, hidden_size)
        self.linear_2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """``[images, tokens, feature_dim]`` to ``[images, tokens, hidden_size]``."""
        return self.linear_2(nn.functional.gelu(self.linear_1(features)))

    def tokens_out(self, grid: tuple[int, int]) -> int:
        """One token per cell."""
        return grid[0] * grid[1]

    @torch.no_grad()
    def scale_output(self, target_std: float) -> None:
        """Start with outputs as large as the token embeddings, which is what the language model was trained on.

        Assumes features of unit variance; only the last layer is scaled, so the arithmetic stays the native one.
        """
        probe = torch.randn(256, self.linear_1.in_features, generator=torch.Generator().manual_seed(0))
        self.linear_2.weight.mul_(target_std / self.forward(probe).std())
        self.linear_2.bias.zero_()


@PROJECTORS.register("linear")
class LinearProjector(nn.Module):
    """One affine map (LLaVA, arXiv 2304.08485, equation 1)."""

    native_classes = ("llava",)

    def __init__(self, feature_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_dim, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """``[images, tokens, feature_dim]`` to ``[images, tokens, hidden_size]``."""
        return self.linear(features)

    def tokens_out(self, grid: tuple[int, int]) -> int:
        """One token per cell."""
        return grid[0] * grid[1]

    @torch.no_grad()
    def scale_output(self, target_std: float) -> None:
        """Start with outputs as large as the token embeddings; assumes features of unit variance."""
        nn.init.normal_(self.linear.weight, std=target_std / self.linear.in_features**0.5)
        self.linear.bias.zero_()


def build_projector(name: str, encoder: EncoderContract, hidden_size: int, embedding_std: float) -> nn.Module:
    """The projector registered as ``name``, its output scaled to the token embeddings.

    Raises:
        UserError: unknown name.
    """
    projector = PROJECTORS.get(name)(encoder.feature_dim, hidden_size)
    projector.scale_output(embedding_std)  # type: ignore[operator]
    return projector
