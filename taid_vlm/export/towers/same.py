"""A tower of transformers as itself: its own names, its positions for the size that it was trained at."""

import copy
from typing import Any

import torch
from torch import Tensor

from taid_vlm.export.towers.names import SIGLIP, to_plain
from taid_vlm.export.towers.plain_vit import NotConvertible, PlainViT
from taid_vlm.models.vision_encoder import EncoderContract

# Parameter that holds the learned positions, and its class tokens, of towers that interpolate them on the way.
POSITIONS = {
    "clip_vision_model": "embeddings.position_embedding.weight",
    "siglip_vision_model": "embeddings.position_embedding.weight",
    "dinov2": "embeddings.position_embeddings",
    "dinov2_with_registers": "embeddings.position_embeddings",
    "internvl_vision": "embeddings.position_embeddings",
    "vit": "embeddings.position_embeddings",
}
# These look up the nearest of their positions instead.
NEAREST = ("smolvlm_vision", "idefics3_vision")
# The switch in the config of a pooling head, which gives nothing that is read.
HEADS = {
    "siglip_vision_model": "vision_use_head",
    "siglip2_vision_model": "vision_use_head",
    "aimv2_vision_model": "use_head",
}


def same_tower(tower: Any, contract: EncoderContract) -> tuple[Any, dict[str, Tensor]]:
    """Config and weights of the tower itself, without a pooling head.

    Positions are written for ``contract.image.size``: the stock classes that hold a tower do not ask it to interpolate
    them, and other runtimes count tokens by the config's ``image_size``.
    """
    config = copy.deepcopy(tower.config)
    state = {name: tensor.detach() for name, tensor in tower.state_dict().items()}
    size = contract.image.size
    if config.model_type in HEADS:
        setattr(config, HEADS[config.model_type], False)
        state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    if config.model_type == "siglip2_vision_model":
        return config, state  # has no image size: it takes patches, and the shape of each picture
    if side(config.image_size) != size:
        if config.model_type in POSITIONS:
            name = POSITIONS[config.model_type]
            old = state[name]
            # The class token has a position in all of them but SigLIP; registers have none.
            prefix = min(contract.source_prefix_tokens, 1)
            tokens = old.new_zeros(1, prefix + contract.grid[0] * contract.grid[1], old.shape[-1])
            with torch.no_grad():
                state[name] = tower.embeddings.interpolate_pos_encoding(tokens, size, size).detach()
            if old.ndim == 2:
                state[name] = state[name][0]
        elif config.model_type in NEAREST:
            name = "embeddings.position_embedding.weight"
            state[name] = state[name][_nearest(side(config.image_size) // config.patch_size, contract.grid[0])]
    config.image_size = size if isinstance(config.image_size, int) else (size, size)
    return config, state


def read_siglip(tower: Any, contract: EncoderContract) -> PlainViT:
    """SigLIP, SigLIP 2 and the towers of SmolVLM and Idefics 3 as a plain ViT.

    Raises:
        NotConvertible: SigLIP 2 away from its base grid.
    """
    config, state = same_tower(tower, contract)
    tensors = to_plain(state, SIGLIP, config.num_hidden_layers)
    if config.model_type == "siglip2_vision_model":
        cells = contract.grid[0] * contract.grid[1]
        if config.num_patches != cells:
            raise NotConvertible(
                f"its pictures have {cells} patches, its positions are for {config.num_patches}; it is exact at its base grid only"
            )
        patch = tensors["patch.weight"].unflatten(1, (config.patch_size, config.patch_size, 3))
        tensors["patch.weight"] = patch.permute(0, 3, 1, 2)
    return PlainViT(
        width=config.hidden_size,
        inner=config.intermediate_size,
        blocks=config.num_hidden_layers,
        heads=config.num_attention_heads,
        image_size=contract.image.size,
        patch_size=config.patch_size,
        activation=config.hidden_act,
        eps=config.layer_norm_eps,
        tensors=tensors,
    )


def side(size: Any) -> int:
    """Height of a picture from a config, where sizes are numbers or pairs."""
    return size if isinstance(size, int) else size[0]


def _nearest(old: int, new: int) -> Tensor:
    """For each cell of a ``new x new`` grid, which position of an ``old x old`` grid these towers look up."""
    boundaries = torch.arange(1 / old, 1.0, 1 / old)
    coordinates = (torch.arange(new, dtype=torch.float32) * (1.0 / new)).clamp(max=1.0 - 1e-6)
    index = torch.bucketize(coordinates, boundaries, right=True)
    return (index[:, None] * old + index[None, :]).flatten()
