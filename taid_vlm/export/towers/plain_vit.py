"""A vision transformer in names of our own: what is read from one library and written for another."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


class NotConvertible(Exception):  # noqa: N818  # a finding, not a failure
    """Why an encoder cannot become a tower of another class, as the end of a sentence."""


@dataclass(frozen=True)
class PlainViT:
    """Pre-norm blocks on patches with learned positions, which is what most image towers are.

    Attributes:
        width: of a token.
        inner: width inside the MLP.
        blocks: how many.
        heads: of attention.
        image_size: side of the picture that the positions are for.
        patch_size: side of a patch.
        activation: name in transformers, of the function that was trained with.
        eps: of every layer norm.
        tensors: weights by these names (``.weight`` and ``.bias`` left out where both are meant):
            ``patch`` [width, 3, patch_size, patch_size], ``class_token`` [width], ``registers`` [count, width],
            ``positions`` [cells, width], ``class_position`` [width], ``norm_pre``, ``norm``, and for each block
            ``blocks.N.`` with ``norm1``, ``q``, ``k``, ``v``, ``out``, ``norm2``, ``fc1``, ``fc2`` (as ``nn.Linear``) and
            ``scale1``, ``scale2`` [width]. What an encoder does not have is absent.
    """

    width: int
    inner: int
    blocks: int
    heads: int
    image_size: int
    patch_size: int
    activation: str
    eps: float
    tensors: dict[str, Tensor]

    def need(self, *names: str) -> None:
        """Raises NotConvertible when the encoder lacks one of the tensors."""
        for name in names:
            if name not in self.tensors:
                raise NotConvertible(f"it has no {SPOKEN[name]}")

    def refuse(self, *names: str) -> None:
        """Raises NotConvertible when the encoder has one of the tensors, for which the target has no place."""
        for name in names:
            if name in self.tensors:
                raise NotConvertible(f"it has {SPOKEN[name]}, which that class has not")


SPOKEN = {
    "patch.bias": "bias of the patch embedding",
    "class_token": "class token",
    "registers": "register tokens",
    "positions": "learned positions",
    "norm_pre.weight": "norm before the blocks",
    "norm.weight": "final norm",
    "blocks.0.scale1": "LayerScale",
}

# Classes of activation modules and their names in transformers, by exact class.
_ACTIVATIONS = {
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.ReLU": "relu",
    "timm.layers.activations.GELU": "gelu",
    "timm.layers.activations.GELUTanh": "gelu_pytorch_tanh",
    "timm.layers.activations.QuickGELU": "quick_gelu",
    "open_clip.transformer.QuickGELU": "quick_gelu",
}


def activation_name(module: nn.Module) -> str:
    """The function that ``module`` computes, as transformers names it: what counts is what was trained with.

    Raises:
        NotConvertible: transformers has no name for it that is known here.
    """
    if type(module) is nn.GELU:
        return "gelu_pytorch_tanh" if module.approximate == "tanh" else "gelu"
    path = f"{type(module).__module__}.{type(module).__qualname__}"
    if path not in _ACTIVATIONS:
        raise NotConvertible(f"its activation {type(module).__name__} is not known to be one of transformers'")
    return _ACTIVATIONS[path]


def common_eps(norms: list[nn.Module]) -> float:
    """The one eps of all layer norms, which is all that transformers' configs can say.

    Raises:
        NotConvertible: another kind of norm, or several values.
    """
    values = set()
    for norm in norms:
        if not isinstance(norm, nn.LayerNorm):
            raise NotConvertible(f"it has a norm of class {type(norm).__name__}, not LayerNorm")
        values.add(norm.eps)
    if len(values) != 1:
        raise NotConvertible(f"its layer norms have several values of eps, {sorted(values)}")
    return values.pop()


def put(tensors: dict[str, Tensor], name: str, module: nn.Module) -> None:
    """Add weight and bias of a linear layer, convolution or norm under ``name``."""
    for key, parameter in module.named_parameters(recurse=False):
        tensors[f"{name}.{key}"] = parameter.detach()


def split_qkv(tensors: dict[str, Tensor], block: str, weight: Tensor, bias: Tensor | None) -> None:
    """Add a fused projection ``[3 * width, width]`` as queries, keys and values."""
    for name, part in zip("qkv", torch.chunk(weight.detach(), 3), strict=True):
        tensors[f"{block}.{name}.weight"] = part
    if bias is not None:
        for name, part in zip("qkv", torch.chunk(bias.detach(), 3), strict=True):
            tensors[f"{block}.{name}.bias"] = part
