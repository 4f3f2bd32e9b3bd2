"""From encoder features ``[tiles, tokens, dim]`` to the language model's embedding space ``[tiles, tokens out, hidden]``."""

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Grid = tuple[int, int]


@dataclass(frozen=True)
class Contract:
    """What a projector of another package is told of the encoder: width, rows and columns of tokens, tokens kept before the grid."""

    feature_dim: int
    grid: Grid
    prefix_tokens: int

    @property
    def tokens(self) -> int:
        """Of a tile."""
        return self.prefix_tokens + self.grid[0] * self.grid[1]


def build_projector(
    name: str, dim: int, hidden: int, grid: Grid, options: dict[str, Any], prefix_tokens: int = 0
) -> nn.Module:
    """The projector of that name; ``options`` are all that it has. One that is not in this code comes from an installed package.

    Raises:
        ImportError: no installed package brings it.
    """
    if name in PROJECTORS:
        return PROJECTORS[name](dim, hidden, grid, **options)
    found = list(entry_points(group="taid_vlm.projectors", name=name))
    if not found:
        raise ImportError(
            f"the projector {name!r} of this checkpoint is of a package that its card names: pip install it"
        )
    return found[0].load()(Contract(dim, grid, prefix_tokens), hidden, **options)


def space_to_depth(features: Tensor, grid: Grid, factor: int) -> Tensor:
    """``[tiles, rows * cols, C]`` to ``[tiles, rows/factor * cols/factor, factor^2 * C]``, C innermost."""
    rows, cols = grid
    blocks = features.unflatten(1, (rows // factor, factor, cols // factor, factor))
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)


def pool(tokens: Tensor, grid: Grid, pooled: Grid) -> Tensor:
    """``[tiles, rows * cols, C]`` to a map of averages ``[tiles, C, pooled rows, pooled cols]``."""
    maps = tokens.transpose(1, 2).unflatten(2, grid)
    return maps if grid == pooled else F.adaptive_avg_pool2d(maps, pooled)


class Linear(nn.Module):
    """One affine map."""

    def __init__(self, dim: int, hidden: int, grid: Grid) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """``[tiles, tokens, dim]`` to ``[tiles, tokens out, hidden]``."""
        return self.linear(features)


class MLP(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, dim: int, hidden: int, grid: Grid, width: int | None = None) -> None:
        super().__init__()
        width = hidden if width is None else width
        self.linear_1 = nn.Linear(dim, width)
        self.linear_2 = nn.Linear(width, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """``[tiles, tokens, dim]`` to ``[tiles, tokens out, hidden]``."""
        return self.linear_2(F.gelu(self.linear_1(features)))


class PixelShuffleLinear(nn.Module):
    """Blocks of ``factor`` x ``factor`` tokens become one, then a linear map without bias."""

    def __init__(self, dim: int, hidden: int, grid: Grid, factor: int) -> None:
        super().__init__()
        self.grid, self.factor = grid, factor
        self.modality_projection = nn.ModuleDict({"proj": nn.Linear(dim * factor**2, hidden, bias=False)})

    def forward(self, features: Tensor) -> Tensor:
        """``[tiles, tokens, dim]`` to ``[tiles, tokens out, hidden]``."""
        return self.modality_projection["proj"](space_to_depth(features, self.grid, self.factor))


class PixelShuffleMLP(MLP):
    """Blocks become one token, LayerNorm if there is one, Linear, GELU, Linear."""

    def __init__(
        self, dim: int, hidden: int, grid: Grid, factor: int, width: int | None = None, layernorm: bool = True
    ) -> None:
        super().__init__(dim * factor**2, hidden, grid, width)
        self.grid, self.factor = grid, factor
        self.layer_norm = nn.LayerNorm(dim * factor**2) if layernorm else None

    def forward(self, features: Tensor) -> Tensor:
        """``[tiles, tokens, dim]`` to ``[tiles, tokens out, hidden]``."""
        blocks = space_to_depth(features, self.grid, self.factor)
        return super().forward(blocks if self.layer_norm is None else self.layer_norm(blocks))


class MLPAvgPool(MLP):
    """Linear, GELU, Linear, average pooling."""

    def __init__(self, dim: int, hidden: int, grid: Grid, ratio: int) -> None:
        super().__init__(dim, hidden, grid)
        self.grid, self.pooled = grid, (grid[0] // ratio, grid[1] // ratio)

    def forward(self, features: Tensor) -> Tensor:
        """``[tiles, tokens, dim]`` to ``[tiles, tokens out, hidden]``."""
        # Tokens are outermost in memory: the order in which averages are summed follows it.
        tokens = super().forward(features.transpose(0, 1)).transpose(0, 1)
        return pool(tokens, self.grid, self.pooled).flatten(2).transpose(1, 2)


class LDPv2(MLP):
    """Linear, GELU, Linear, average pooling, a depthwise convolution added to its input."""

    def __init__(self, dim: int, hidden: int, grid: Grid, ratio: int) -> None:
        super().__init__(dim, hidden, grid)
        self.grid, self.pooled = grid, (grid[0] // ratio, grid[1] // ratio)
        self.peg = nn.Conv2d(hidden, hidden, kernel_size=3, padding=1, groups=hidden)

    def forward(self, features: Tensor) -> Tensor:
        """``[tiles, tokens, dim]`` to ``[tiles, tokens out, hidden]``."""
        maps = pool(super().forward(features), self.grid, self.pooled)
        return (self.peg(maps) + maps).flatten(2).transpose(1, 2)


class Perceiver(nn.Module):
    """A gated MLP, then ``latents`` learnt queries that read the tokens by attention, layer by layer."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        grid: Grid,
        latents: int,
        depth: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        width: int | None = None,
    ) -> None:
        super().__init__()
        self.modality_projection = GatedMLP(dim, 4 * hidden if width is None else width, hidden)
        self.perceiver_resampler = Resampler(hidden, latents, depth, heads, kv_heads, head_dim)

    def forward(self, features: Tensor) -> Tensor:
        """``[tiles, tokens, dim]`` to ``[tiles, tokens out, hidden]``."""
        return self.perceiver_resampler(self.modality_projection(features))


class GatedMLP(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, width: int, inner: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` to ``[..., hidden]``."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class ResamplerRMSNorm(nn.Module):
    """x / rms(x) * weight, the division in fp32."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and dtype as ``x``."""
        x_float = x.float()
        normed = x_float * torch.rsqrt(x_float.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(x.dtype)


class Resampler(nn.Module):
    """Latents that read a context layer by layer."""

    def __init__(self, width: int, latents: int, depth: int, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.layers = nn.ModuleList(ResamplerLayer(width, heads, kv_heads, head_dim) for _ in range(depth))
        self.norm = ResamplerRMSNorm(width)

    def forward(self, context: Tensor) -> Tensor:
        """``[tiles, tokens, width]`` to ``[tiles, latents, width]``."""
        latents = self.latents.expand(context.shape[0], -1, -1)
        for layer in self.layers:
            latents = layer(latents, context)
        return self.norm(latents)


class ResamplerLayer(nn.Module):
    """Attention over context and latents, then a gated MLP; both with a residual."""

    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.input_latents_norm = ResamplerRMSNorm(width)
        self.input_context_norm = ResamplerRMSNorm(width)
        self.self_attn = ResamplerAttention(width, heads, kv_heads, head_dim)
        self.post_attention_layernorm = ResamplerRMSNorm(width)
        self.mlp = GatedMLP(width, 4 * width, width)

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        """``[tiles, latents, width]`` and ``[tiles, tokens, width]`` to ``[tiles, latents, width]``."""
        latents = latents + self.self_attn(self.input_latents_norm(latents), self.input_context_norm(context))
        return latents + self.mlp(self.post_attention_layernorm(latents))


class ResamplerAttention(nn.Module):
    """Grouped-query attention."""

    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim, self.grouped = head_dim, heads != kv_heads
        self.q_proj = nn.Linear(width, heads * head_dim, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(heads * head_dim, width, bias=False)

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        """``[tiles, latents, width]`` and ``[tiles, tokens, width]`` to ``[tiles, latents, width]``."""
        both = torch.cat([context, latents], dim=1)
        q, k, v = (
            projected.unflatten(2, (-1, self.head_dim)).transpose(1, 2)
            for projected in (self.q_proj(latents), self.k_proj(both), self.v_proj(both))
        )
        read = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.grouped)
        return self.o_proj(read.transpose(1, 2).flatten(2))


PROJECTORS: dict[str, type[nn.Module]] = {
    "linear": Linear,
    "mlp": MLP,
    "pixel_shuffle_linear": PixelShuffleLinear,
    "pixel_shuffle_mlp": PixelShuffleMLP,
    "ln_pixel_shuffle_mlp": PixelShuffleMLP,
    "mlp_avg_pool": MLPAvgPool,
    "ldp_v2": LDPv2,
    "perceiver": Perceiver,
}
