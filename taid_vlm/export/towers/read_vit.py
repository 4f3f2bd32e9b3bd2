"""timm's VisionTransformer and open_clip's as plain ViTs."""

from typing import Any

from torch import Tensor, nn

from taid_vlm.export.towers.plain_vit import NotConvertible, PlainViT, activation_name, common_eps, put, split_qkv
from taid_vlm.models.vision_encoder import EncoderContract


def read_timm(model: Any, contract: EncoderContract) -> PlainViT:
    """A timm ViT, without its pooling and classifier.

    Raises:
        NotConvertible: a part that no tower of transformers has.
    """
    from timm.layers import Attention, LayerScale, Mlp, PatchEmbed
    from timm.models.vision_transformer import Block, VisionTransformer

    _exactly(model, VisionTransformer, "model")
    _exactly(model.patch_embed, PatchEmbed, "patch embedding")
    _exactly(model.patch_embed.norm, nn.Identity, "norm of the patch embedding")
    if model.pos_embed is None:
        raise NotConvertible("it has no learned positions")
    tensors: dict[str, Tensor] = {}
    put(tensors, "patch", model.patch_embed.proj)
    _timm_tokens(model, contract, tensors)
    norms = []
    if not isinstance(model.norm_pre, nn.Identity):
        norms.append(model.norm_pre)
        put(tensors, "norm_pre", model.norm_pre)
    if not isinstance(model.norm, nn.Identity):
        norms.append(model.norm)
        put(tensors, "norm", model.norm)
    for index, block in enumerate(model.blocks):
        _exactly(block, Block, "block")
        _exactly(block.attn, Attention, "attention")
        _exactly(block.mlp, Mlp, "MLP")
        for extra in (block.attn.q_norm, block.attn.k_norm, block.attn.norm, block.mlp.norm):
            _exactly(extra, nn.Identity, "extra norm")
        if block.attn.gate is not None:
            raise NotConvertible("its attention is gated")
        if block.attn.qkv.out_features != 3 * model.embed_dim:
            raise NotConvertible("its heads together are not as wide as a token")
        name = f"blocks.{index}"
        norms += [block.norm1, block.norm2]
        put(tensors, f"{name}.norm1", block.norm1)
        put(tensors, f"{name}.norm2", block.norm2)
        split_qkv(tensors, name, block.attn.qkv.weight, block.attn.qkv.bias)
        put(tensors, f"{name}.out", block.attn.proj)
        put(tensors, f"{name}.fc1", block.mlp.fc1)
        put(tensors, f"{name}.fc2", block.mlp.fc2)
        for scale, module in (("scale1", block.ls1), ("scale2", block.ls2)):
            if isinstance(module, LayerScale):
                tensors[f"{name}.{scale}"] = module.gamma.detach()
    first = model.blocks[0]
    return PlainViT(
        width=model.embed_dim,
        inner=first.mlp.fc1.out_features,
        blocks=len(model.blocks),
        heads=first.attn.num_heads,
        image_size=contract.image.size,
        patch_size=_square(model.patch_embed.patch_size),
        activation=activation_name(first.mlp.act),
        eps=common_eps(norms),
        tensors=tensors,
    )


def _timm_tokens(model: Any, contract: EncoderContract, tensors: dict[str, Tensor]) -> None:
    cells = contract.grid[0] * contract.grid[1]
    positions = model.pos_embed.detach()[0]  # [prefix + cells, width], or [cells, width] with no_embed_class
    prefix = positions[:0] if model.no_embed_class else positions[: model.num_prefix_tokens]
    positions = positions[len(prefix) :]
    if len(positions) != cells:
        raise NotConvertible(
            f"its positions are for {len(positions)} patches, its pictures have {cells}; build it at its own image_size"
        )
    tensors["positions"] = positions
    if model.cls_token is not None:
        token = model.cls_token.detach()[0, 0]
        tensors["class_token"] = token
        tensors["class_position"] = prefix[0] if len(prefix) else token.new_zeros(token.shape)
    if model.reg_token is not None:
        registers = model.reg_token.detach()[0]
        # Positions of registers are constants added to constants.
        tensors["registers"] = registers + prefix[-len(registers) :] if len(prefix) else registers


def read_open_clip(tower: Any, contract: EncoderContract) -> PlainViT:
    """open_clip's own ViT, without its pooling and projection.

    Raises:
        NotConvertible: a part that no tower of transformers has.
    """
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    _exactly(tower, VisionTransformer, "image tower")
    if tower.attn_pool is not None:
        raise NotConvertible("its final norm stands behind attention pooling")
    tensors: dict[str, Tensor] = {
        "class_token": tower.class_embedding.detach(),
        "class_position": tower.positional_embedding.detach()[0],
        "positions": tower.positional_embedding.detach()[1:],
    }
    put(tensors, "patch", tower.conv1)
    put(tensors, "norm", tower.ln_post)
    norms = [tower.ln_post]
    if not isinstance(tower.ln_pre, nn.Identity):
        put(tensors, "norm_pre", tower.ln_pre)
        norms.append(tower.ln_pre)
    for index, block in enumerate(tower.transformer.resblocks):
        _exactly(block, ResidualAttentionBlock, "block")
        name = f"blocks.{index}"
        norms += [block.ln_1, block.ln_2]
        put(tensors, f"{name}.norm1", block.ln_1)
        put(tensors, f"{name}.norm2", block.ln_2)
        split_qkv(tensors, name, block.attn.in_proj_weight, block.attn.in_proj_bias)
        put(tensors, f"{name}.out", block.attn.out_proj)
        put(tensors, f"{name}.fc1", block.mlp.c_fc)
        put(tensors, f"{name}.fc2", block.mlp.c_proj)
        if not isinstance(block.ls_1, nn.Identity):
            tensors[f"{name}.scale1"] = block.ls_1.gamma.detach()
            tensors[f"{name}.scale2"] = block.ls_2.gamma.detach()
    first = tower.transformer.resblocks[0]
    return PlainViT(
        width=tower.conv1.out_channels,
        inner=first.mlp.c_fc.out_features,
        blocks=len(tower.transformer.resblocks),
        heads=first.attn.num_heads,
        image_size=contract.image.size,
        patch_size=_square(tower.patch_size),
        activation=activation_name(first.mlp.gelu),
        eps=common_eps(norms),
        tensors=tensors,
    )


def _exactly(module: nn.Module, kind: type[nn.Module], what: str) -> None:
    if type(module) is not kind:
        raise NotConvertible(f"its {what} is a {type(module).__name__}, expected {kind.__name__}")


def _square(size: tuple[int, int]) -> int:
    if size[0] != size[1]:
        raise NotConvertible(f"its patches are {size[0]} x {size[1]}, not square")
    return size[0]
