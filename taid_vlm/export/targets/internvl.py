"""InternVL: an InternViT tower without its class token, pixel shuffle, LayerNorm and two linear layers."""

from typing import Any

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.processors import image_settings, spare_token, stock_template, stock_tokenizer
from taid_vlm.export.targets.common import (
    converted,
    feature_layer,
    image_token_id,
    native_state,
    picture_obstacles,
    text_fields,
    thumbnail_obstacle,
    tokens_per_tile,
    tower_obstacle,
    usual_obstacles,
)
from taid_vlm.export.targets.target import Native, Obstacle, Target
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
    found += thumbnail_obstacle(facts)
    if not set(INTERNVL_MARKERS) <= set(facts.tokens):
        # The stock processor makes tokens of them, and their ids would be new to the student.
        found.append(
            Obstacle("its processor has <img> and </img> as tokens", "set student.added_tokens to ['<img>', '</img>']")
        )
    return found + picture_obstacles(facts, "internvl", ("none", "dynamic"))


def native(parts: Parts) -> Native:
    """The student as InternVLForConditionalGeneration."""
    from transformers import InternVLConfig

    facts = parts.facts
    vision, vision_state = converted(parts, ("internvl_vision",))
    factor: Any = parts.student.projector.factor  # type: ignore[union-attr]
    config = InternVLConfig(
        vision_config=vision,
        image_token_id=image_token_id(parts),
        image_seq_length=tokens_per_tile(parts),
        downsample_ratio=1 / factor,
        vision_feature_layer=feature_layer(facts),
        **text_fields(parts),  # true unless said otherwise, and then an untied head is not saved
    )
    state = native_state(parts, vision_state)
    return Native(config, state, internvl_processor(parts))


def internvl_processor(parts: Parts) -> Any:
    """InternVLProcessor, with as many placeholders for a tile as the projector makes tokens of it."""
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
        image_seq_length=tokens_per_tile(parts),
        chat_template=stock_template(parts.processor.template, facts.image_token),
    )


INTERNVL = Target("internvl", "InternVLForConditionalGeneration", obstacles, native)
