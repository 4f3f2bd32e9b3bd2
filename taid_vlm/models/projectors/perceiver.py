"""A resampler: a fixed number of learnt queries read the picture by attention."""

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.models.projectors.registry import PROJECTORS, at_least
from taid_vlm.models.vision_encoder import EncoderContract


@PROJECTORS.register("perceiver")
class Perceiver(nn.Module):
    """A gated MLP into the language model's space, then a perceiver resampler (Flamingo, arXiv 2204.14198)
    in the form of Idefics2 (arXiv 2405.02246): the connector of transformers' Idefics2, name by name.

    That class takes the width and the activation of the gated MLP from the language model, so there ``width`` must be
    the language model's ``intermediate_size`` and its activation SiLU.

    Options:
        latents: queries, and thus tokens of a picture, whatever the grid.
        depth: layers of the resampler.
        heads: of the attention; ``kv_heads`` of them have keys and values of their own (must divide ``heads``).
        head_dim: width of a head.
        width: of the gated MLP before the resampler; four times the language model's when left out.
    """

    native_classes: tuple[str, ...] = ()

    def __init__(
        self,
        contract: EncoderContract,
        hidden_size: int,
        *,
        latents: int = 64,
        depth: int = 2,
        heads: int = 16,
        kv_heads: int = 4,
        head_dim: int = 96,
        width: int | None = None,
    ) -> None:
        super().__init__()
        width = 4 * hidden_size if width is None else width
        at_least(
            "perceiver", latents=latents, depth=depth, heads=heads, kv_heads=kv_heads, head_dim=head_dim, width=width
        )
        if heads % kv_heads:
            raise UserError(
                f"projector 'perceiver': kv_heads {kv_heads} does not divide heads {heads}; expected a divisor such as "
                f"{max(k for k in range(1, min(kv_heads, heads) + 1) if heads % k == 0)}"
            )
        self.modality_projection = GatedMLP(contract.feature_dim, width, hidden_size)
        self.perceiver_resampler = Resampler(hidden_size, latents, depth, heads, kv_heads, head_dim)

    def forward(self, features: Tensor) -> Tensor:
        """``[images, tokens, feature_dim]`` to ``[images, latents, hidden_size]``."""
        return self.perceiver_resampler(self.modality_projection(features))

    def tokens_out(self) -> int:
        """One for each latent."""
        return self.perceiver_resampler.latents.shape[0]

    @torch.no_grad()
    def start(self, embedding_std: float) -> None:
        """Outputs as large as the token embeddings: the last norm makes them of unit size, whatever comes in."""
        self.perceiver_resampler.norm.weight.fill_(embedding_std)


class GatedMLP(nn.Module):
    """down(silu(gate(x)) * up(x)), no biases (GLU variants, arXiv 2002.05202)."""

    def __init__(self, width_in: int, width: int, width_out: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width_in, width, bias=False)
        self.up_proj = nn.Linear(width_in, width, bias=False)
        self.down_proj = nn.Linear(width, width_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width_in]`` to ``[..., width_out]``."""
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class RMSNorm(nn.Module):
    """x / rms(x) * weight, the division in fp32 (arXiv 1910.07467)."""

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
        # Idefics2 is initialised with ones, from which equal latents would learn the same for ever.
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.layers = nn.ModuleList(ResamplerLayer(width, heads, kv_heads, head_dim) for _ in range(depth))
        self.norm = RMSNorm(width)

    def forward(self, context: Tensor) -> Tensor:
        """``[images, tokens, width]`` to ``[images, latents, width]``."""
        latents = self.latents.expand(context.shape[0], -1, -1)
        for layer in self.layers:
            latents = layer(latents, context)
        return self.norm(latents)


class ResamplerLayer(nn.Module):
    """Latents attend to the context and to themselves, then pass a gated MLP; both with a residual."""

    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.input_latents_norm = RMSNorm(width)
        self.input_context_norm = RMSNorm(width)
        self.self_attn = ResamplerAttention(width, heads, kv_heads, head_dim)
        self.post_attention_layernorm = RMSNorm(width)
        self.mlp = GatedMLP(width, 4 * width, width)

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        """``[images, latents, width]`` and ``[images, tokens, width]`` to ``[images, latents, width]``."""
        latents = latents + self.self_attn(self.input_latents_norm(latents), self.input_context_norm(context))
        return latents + self.mlp(self.post_attention_layernorm(latents))


class ResamplerAttention(nn.Module):
    """Grouped-query attention (arXiv 2305.13245) of latents over context and latents."""

    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.grouped = heads != kv_heads
        self.q_proj = nn.Linear(width, heads * head_dim, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(heads * head_dim, width, bias=False)

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        """``[images, latents, width]`` and ``[images, tokens, width]`` to ``[images, latents, width]``."""
        both = torch.cat([context, latents], dim=1)
        q, k, v = (
            projected.unflatten(2, (-1, self.head_dim)).transpose(1, 2)
            for projected in (self.q_proj(latents), self.k_proj(both), self.v_proj(both))
        )
        read = nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=self.grouped)
        return self.o_proj(read.transpose(1, 2).flatten(2))
