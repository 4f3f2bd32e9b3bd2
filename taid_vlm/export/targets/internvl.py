"""InternVL: an InternViT tower without its class token, pixel shuffle, LayerNorm and two linear layers."""

from typing import Any

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.processors import image_settings, spare_token, stock_template, stock_tokenizer
from taid_vlm.export.targets.common import (
    feature_layer,
    image_token_id,
    prefixed,
    projector_state,
    square_obstacle,
    style_obstacle,
    text_config,
    text_state,
    tied,
    tower_obstacle,
    usual_obstacles,
)
from taid_vlm.export.targets.target import Native, Obstacle, Target
from taid_vlm.export.towers import convert_tower
from taid_vlm.models.image_text import INTERNVL as INTERNVL_MARKERS


def obstacles(facts: Facts) -> list[Obstacle]:
    """What keeps a student out of InternVL."""
    found = usual_obstacles(facts, "internvl")
    if facts.contract is None:
        return found
    # Its config rebuilds an InternViT whatever tower was saved: another one is silently drawn anew on loading.
    found += tower_obstacle(facts, ("internvl_vision",), "an InternViT encoder")
    if facts.contract.prefix_tokens:
        found.append(
            Obstacle("it leaves out the class token, the student keeps it", "set vision_encoder.prefix_tokens to drop")
        )
    if facts.images.tiling == "dynamic" and not facts.images.thumbnail and facts.images.max_tiles > 1:
        found.append(Obstacle("its processor always adds a thumbnail to several tiles", "set images.thumbnail to true"))
    if not set(INTERNVL_MARKERS) <= set(facts.tokens):
        # The stock processor makes tokens of them, and their ids would be new to the student.
        found.append(
            Obstacle("its processor has <img> and </img> as tokens", "set student.added_tokens to ['<img>', '</img>']")
        )
    return found + square_obstacle(facts) + style_obstacle(facts, "internvl", ("none", "dynamic"))


def native(parts: Parts) -> Native:
    """The student as InternVLForConditionalGeneration."""
    from transformers import InternVLConfig

    facts = parts.facts
    assert facts.contract is not None
    assert parts.student.vision_encoder is not None
    vision, vision_state = convert_tower(parts.student.vision_encoder, "internvl_vision")
    factor: Any = parts.student.projector.factor  # type: ignore[union-attr]
    tokens = facts.contract.grid[0] * facts.contract.grid[1] // factor**2
    config = InternVLConfig(
        vision_config=vision,
        text_config=text_config(parts),
        image_token_id=image_token_id(parts),
        image_seq_length=tokens,
        downsample_ratio=1 / factor,
        vision_feature_layer=feature_layer(facts),
        tie_word_embeddings=tied(facts),  # true unless said otherwise, and then an untied head is not saved
    )
    state = prefixed("model.vision_tower.", vision_state)
    state |= prefixed("model.multi_modal_projector.", projector_state(parts))
    state |= text_state(parts, "model.language_model.")
    return Native(config, state, internvl_processor(parts, tokens))


def internvl_processor(parts: Parts, tokens: int) -> Any:
    """InternVLProcessor, with ``tokens`` placeholders for each tile."""
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    facts = parts.facts
    assert facts.image_token is not None
    dynamic = facts.images.tiling == "dynamic"
    images = GotOcr2ImageProcessor(
        **image_settings(facts),
        # InternVLProcessor asks for crops whatever is said here, so one tile is said as a limit.
        crop_to_patches=dynamic,
        min_patches=facts.images.min_tiles if dynamic else 1,
        max_patches=facts.images.max_tiles if dynamic else 1,
    )
    return InternVLProcessor(
        image_processor=images,
        tokenizer=stock_tokenizer(
            parts,
            start_image_token=INTERNVL_MARKERS[0],
            end_image_token=INTERNVL_MARKERS[1],
            context_image_token=facts.image_token,
            video_token=spare_token(parts),
        ),
        video_processor=InternVLVideoProcessor(**image_settings(facts)),
        image_seq_length=tokens,
        chat_template=stock_template(parts.processor.template, facts.image_token),
    )


INTERNVL = Target("internvl", "InternVLForConditionalGeneration", obstacles, native)
