"""Vision encoders from timm, open_clip, transformers or a package of somebody's own, behind one contract.

Whatever the library, a picture becomes ``[batch, tokens, feature_dim]``: the cells of ``grid`` in row order, with class and
register tokens in front if they are kept. Which features they are is the spec's ``feature``:

- ``normed`` is what the library itself calls its output: ``last_hidden_state`` of transformers, ``forward_features`` of timm, the
  last block after ``ln_post`` of open_clip. A final norm is in it, but for transformers' CLIP and for models that pool first.
- ``-1``, ``-2``, ... is the output of a block counted from the end, without the final norm: transformers' ``hidden_states[k]``,
  which LLaVA reads. For a model that gives a map, blocks are its stages.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from taid_vlm.common.errors import UserError
from taid_vlm.models.encoders.contract import EncoderContract, ImageInput, Layout, Source, shape_of_features
from taid_vlm.models.encoders.libraries import LIBRARIES
from taid_vlm.models.specs import VisionEncoderSpec

__all__ = ["EncoderContract", "ImageInput", "VisionEncoder", "build_vision_encoder"]


class VisionEncoder(nn.Module):
    """A backbone and the function that reads token features from it.

    Attributes:
        backbone: the library's module.
        contract: feature dimension, grid, preprocessing and what is read.
        timm_model: name and arguments with which ``timm.create_model`` builds the backbone again, if it is timm's.
    """

    def __init__(self, source: Source, spec: VisionEncoderSpec) -> None:
        super().__init__()
        self.backbone = source.backbone
        self.timm_model: tuple[str, dict[str, Any]] | None = source.timm_model
        self._read = source.read
        self._layout = source.layout
        self._dropped = source.prefix_tokens if spec.prefix_tokens == "drop" else 0
        size = source.image.size
        shape = source.shape or shape_of_features(spec.name, source.backbone, source.read, size)
        tokens, feature_dim = _as_tokens(torch.empty(1, *shape, device="meta"), source.layout).shape[1:]
        cells = tokens - source.prefix_tokens
        side = math.isqrt(cells)
        if side * side != cells:
            raise UserError(
                f"the vision encoder gives {cells} tokens for a {size} x {size} picture, which is not a square grid; choose "
                f"another image_size or encoder"
            )
        self.contract = EncoderContract(
            feature_dim,
            (side, side),
            source.image,
            prefix_tokens=source.prefix_tokens - self._dropped,
            layout=source.layout,
            family=source.family,
            feature=spec.feature,
            source_prefix_tokens=source.prefix_tokens,
        )
        self.eval()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Pixels ``[images, 3, size, size]`` (normalised) to features ``[images, tokens, feature_dim]``."""
        return _as_tokens(self._read(self.backbone, pixel_values), self._layout)[:, self._dropped :]


def _as_tokens(features: Tensor, layout: Layout) -> Tensor:
    if layout == "NCHW":
        return features.flatten(2).transpose(1, 2)
    return features.flatten(1, 2) if layout == "NHWC" else features


def build_vision_encoder(spec: VisionEncoderSpec, load_weights: bool = True) -> VisionEncoder:
    """Build the encoder that ``spec`` names; also inside ``with torch.device("meta")``, without weights.

    Args:
        load_weights: False when the caller fills in all weights itself (a saved student); no weight file is read.

    Raises:
        UserError: unknown model, missing or unfitting weight file, a size or a block that the model does not have, a
            grid that is not square.
    """
    source = LIBRARIES.get(spec.library)(spec, spec.weights if load_weights else "random")
    if spec.interpolation is not None:
        source = replace(source, image=replace(source.image, interpolation=spec.interpolation))
    return VisionEncoder(source, spec)
