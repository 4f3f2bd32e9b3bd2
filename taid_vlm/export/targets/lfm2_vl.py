"""Lfm2Vl: SigLIP 2 in its flexible form, pixel shuffle, LayerNorm if wanted, and two linear layers of any width."""

from typing import Any

import torch
from torch import Tensor

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.processors import image_settings, stock_template, stock_tokenizer
from taid_vlm.export.targets.common import (
    converted,
    image_token_id,
    native_state,
    normed_obstacle,
    picture_obstacles,
    text_fields,
    tower_obstacle,
    usual_obstacles,
)
from taid_vlm.export.targets.target import Native, Obstacle, Target
from taid_vlm.models.encoders.from_transformers import cut_into_patches


def obstacles(facts: Facts) -> list[Obstacle]:
    """What keeps a student out of Lfm2Vl."""
    found = usual_obstacles(facts, "lfm2_vl")
    if facts.contract is None:
        return found
    found += tower_obstacle(facts, ("siglip2_vision_model",), "a SigLIP encoder (no class token, learned positions)")
    found += normed_obstacle(facts)
    return found + picture_obstacles(facts, "lfm2_vl")


def native(parts: Parts) -> Native:
    """The student as Lfm2VlForConditionalGeneration."""
    from transformers import Lfm2VlConfig

    vision, vision_state = converted(parts, ("siglip2_vision_model",))
    projector: Any = parts.student.projector
    config = Lfm2VlConfig(
        vision_config=vision,
        image_token_id=image_token_id(parts),
        projector_hidden_size=projector.linear_1.out_features,
        projector_use_layernorm=projector.layer_norm is not None,
        downsample_factor=projector.factor,
        **text_fields(parts),
    )
    state = native_state(parts, vision_state)
    note = (
        "The stock processor keeps the shape of a picture, the student learnt squares: pictures that are not square are "
        "prepared otherwise than in training."
    )
    return Native(config, state, _processor(parts, projector.factor), (note,))


def pixel_inputs(pixel_values: Tensor, facts: Facts) -> dict[str, Tensor]:
    """Pictures as rows of flattened patches ``[pictures, cells, patch * patch * 3]``, their masks and grids."""
    assert facts.contract is not None
    cells, shapes = cut_into_patches(pixel_values, facts.contract.image.size // facts.contract.grid[0])
    mask = torch.ones(cells.shape[:2], dtype=torch.long)
    return {"pixel_values": cells, "pixel_attention_mask": mask, "spatial_shapes": shapes}


def _processor(parts: Parts, factor: int) -> Any:
    from transformers import Lfm2VlImageProcessor, Lfm2VlProcessor

    facts = parts.facts
    assert facts.contract is not None
    assert facts.image_token is not None
    size, side = facts.contract.image.size, facts.contract.grid[0]
    tokens = (side // factor) ** 2
    images = Lfm2VlImageProcessor(
        **image_settings(facts),
        downsample_factor=factor,
        do_image_splitting=False,
        min_image_tokens=tokens,
        max_image_tokens=tokens,
        encoder_patch_size=size // side,
        max_num_patches=side * side,
        tile_size=size,
    )
    return Lfm2VlProcessor(
        image_processor=images,
        tokenizer=stock_tokenizer(parts, image_token=facts.image_token),  # markers by themselves, as in training
        chat_template=stock_template(parts.processor.template, facts.image_token),
    )


LFM2_VL = Target("lfm2_vl", "Lfm2VlForConditionalGeneration", obstacles, native, pixel_inputs)
