"""Projectors that read each token alone: one affine map, or two with a GELU."""

import torch
from torch import Tensor, nn

from taid_vlm.models.projectors.registry import PROJECTORS, scale_last
from taid_vlm.models.vision_encoder import EncoderContract


@PROJECTORS.register("mlp")
class MLPProjector(nn.Module):
    """Linear, GELU, Linear, as wide as the language model (LLaVA-1.5, arXiv 2310.03744, section 3.2).

    Which native class it can be follows from the encoder: Llava reads a layer before the last norm, DeepseekVL after
    it, FastVlm a timm CNN.
    """

    native_classes: tuple[str, ...] = ("fast_vlm", "llava", "deepseek_vl")

    def __init__(self, contract: EncoderContract, hidden_size: int) -> None:
        super().__init__()
        self.contract = contract
        self.linear_1 = nn.Linear(contract.feature_dim, hidden_size)
        self.linear_2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """``[images, tokens, feature_dim]`` to ``[images, tokens, hidden_size]``."""
        return self.linear_2(nn.functional.gelu(self.linear_1(features)))

    def tokens_out(self) -> int:
        """One for each token that comes in."""
        return tokens_in(self.contract)

    def start(self, embedding_std: float) -> None:
        """Outputs as large as the token embeddings, for features of unit variance."""
        scale_last(self, self.linear_2, (256, self.linear_1.in_features), embedding_std)


@PROJECTORS.register("linear")
class LinearProjector(nn.Module):
    """One affine map (LLaVA, arXiv 2304.08485, equation 1). Llava holds it with an identity as second layer."""

    native_classes: tuple[str, ...] = ("llava",)

    def __init__(self, contract: EncoderContract, hidden_size: int) -> None:
        super().__init__()
        self.contract = contract
        self.linear = nn.Linear(contract.feature_dim, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """``[images, tokens, feature_dim]`` to ``[images, tokens, hidden_size]``."""
        return self.linear(features)

    def tokens_out(self) -> int:
        """One for each token that comes in."""
        return tokens_in(self.contract)

    @torch.no_grad()
    def start(self, embedding_std: float) -> None:
        """Outputs as large as the token embeddings, for features of unit variance."""
        nn.init.normal_(self.linear.weight, std=embedding_std / self.linear.in_features**0.5)
        self.linear.bias.zero_()


def tokens_in(contract: EncoderContract) -> int:
    """Tokens that the encoder gives: those kept before the grid, and its cells."""
    return contract.prefix_tokens + contract.grid[0] * contract.grid[1]
