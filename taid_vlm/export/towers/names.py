"""Parameter names of transformers' towers beside those of :class:`PlainViT`."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Names:
    """Names of one class.

    Attributes:
        stem: names outside the blocks, ours to theirs.
        blocks: prefix of the blocks' names.
        block: names inside a block, ours to theirs.
    """

    stem: dict[str, str]
    blocks: str
    block: dict[str, str]

    def pairs(self, count: int) -> Iterator[tuple[str, str]]:
        """(ours, theirs) of every module or parameter, for ``count`` blocks."""
        yield from self.stem.items()
        for index in range(count):
            for ours, theirs in self.block.items():
                yield f"blocks.{index}.{ours}", f"{self.blocks}.{index}.{theirs}"


_CLIP_BLOCK = {
    "norm1": "layer_norm1",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
_ATTENTION = {
    "q": "attention.q_proj",
    "k": "attention.k_proj",
    "v": "attention.v_proj",
    "out": "attention.o_proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}

# Also SigLIP 2 and the towers of SmolVLM and Idefics 3.
SIGLIP = Names(
    {
        "patch": "embeddings.patch_embedding",
        "positions": "embeddings.position_embedding.weight",
        "norm": "post_layernorm",
    },
    "encoder.layers",
    _CLIP_BLOCK,
)
CLIP = Names(
    {
        "patch": "embeddings.patch_embedding",
        "class_token": "embeddings.class_embedding",
        "norm_pre": "pre_layrnorm",  # transformers' own spelling
        "norm": "post_layernorm",
    },
    "encoder.layers",
    _CLIP_BLOCK,
)
DINOV2 = Names(
    {"patch": "embeddings.patch_embeddings.projection", "norm": "layernorm"},
    "encoder.layer",
    {
        "norm1": "norm1",
        **_ATTENTION,
        "scale1": "layer_scale1.lambda1",
        "norm2": "norm2",
        "scale2": "layer_scale2.lambda1",
    },
)
VIT = Names(
    {"patch": "embeddings.patch_embeddings.projection", "norm": "layernorm"},
    "layers",
    {"norm1": "layernorm_before", **_ATTENTION, "norm2": "layernorm_after"},
)


def from_plain(tensors: dict[str, Tensor], names: Names, count: int) -> dict[str, Tensor]:
    """Rename what ``names`` knows; the rest is left out."""
    found = {}
    for ours, theirs in names.pairs(count):
        for suffix in ("", ".weight", ".bias"):
            if ours + suffix in tensors:
                found[theirs + suffix] = tensors[ours + suffix]
    return found


def to_plain(state: dict[str, Tensor], names: Names, count: int) -> dict[str, Tensor]:
    """The way back of :func:`from_plain`."""
    found = {}
    for ours, theirs in names.pairs(count):
        for suffix in ("", ".weight", ".bias"):
            if theirs + suffix in state:
                found[ours + suffix] = state[theirs + suffix]
    return found
