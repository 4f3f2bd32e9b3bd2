"""PerceptionLM: a timm ViT after its last norm, two linear layers, average pooling."""

from typing import Any

from torch import Tensor

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.export.processors import image_settings, spare_token, stock_template, stock_tokenizer
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


def obstacles(facts: Facts) -> list[Obstacle]:
    """What keeps a student out of PerceptionLM."""
    found = usual_obstacles(facts, "perception_lm")
    if facts.contract is None:
        return found
    found += tower_obstacle(facts, ("timm_wrapper",), "a timm ViT")
    if facts.contract.family != "timm_vit":
        found.append(Obstacle("it takes timm's plain ViT only", "choose a timm ViT"))
    found += normed_obstacle(facts)
    if facts.prefix_tokens > 1 or facts.contract.prefix_tokens:
        found.append(
            Obstacle(
                f"it leaves out at most one token, the encoder has {facts.prefix_tokens} and the student keeps {facts.contract.prefix_tokens}",
                "choose a ViT without register tokens, with vision_encoder.prefix_tokens drop",
            )
        )
    return found + picture_obstacles(facts, "plain")


def native(parts: Parts) -> Native:
    """The student as PerceptionLMForConditionalGeneration."""
    from transformers import PerceptionLMConfig

    facts = parts.facts
    assert facts.contract is not None
    vision, vision_state = converted(parts, ("timm_wrapper",))
    vision.model_args = {**(vision.model_args or {}), "embed_dim": facts.contract.feature_dim}
    ratio: Any = parts.student.projector.ratio  # type: ignore[union-attr]
    config = PerceptionLMConfig(
        vision_config=vision,
        vision_use_cls_token=facts.prefix_tokens == 1,
        projector_pooling_ratio=ratio,
        image_token_id=image_token_id(parts),
        # It asks for a token of videos too, which a student has none of: an id that no text contains.
        video_token_id=-1,
        **text_fields(parts),
    )
    state = native_state(parts, vision_state)
    return Native(config, state, _processor(parts, ratio))


def pixel_inputs(pixel_values: Tensor, facts: Facts) -> dict[str, Tensor]:
    """``[pictures, 1, 3, size, size]``: the class wants an axis of tiles."""
    return {"pixel_values": pixel_values.unsqueeze(1)}


def _processor(parts: Parts, ratio: int) -> Any:
    from transformers import PerceptionLMImageProcessor, PerceptionLMProcessor, PerceptionLMVideoProcessor

    facts = parts.facts
    assert facts.contract is not None
    assert facts.image_token is not None
    size = facts.contract.image.size
    images = PerceptionLMImageProcessor(
        **image_settings(facts), vision_input_type="vanilla", tile_size=size, max_num_tiles=1
    )
    return PerceptionLMProcessor(
        image_processor=images,
        video_processor=PerceptionLMVideoProcessor(**image_settings(facts)),
        tokenizer=stock_tokenizer(parts, image_token=facts.image_token, video_token=spare_token(parts)),
        patch_size=size // facts.contract.grid[0],
        pooling_ratio=ratio,
        chat_template=stock_template(parts.processor.template, facts.image_token),
    )


PERCEPTION_LM = Target("perception_lm", "PerceptionLMForConditionalGeneration", obstacles, native, pixel_inputs)
