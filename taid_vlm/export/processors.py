"""Stock processors that prepare pictures and text as the student learnt them."""

import copy
import re
from typing import Any

from taid_vlm.export.facts import Facts, Parts
from taid_vlm.models.images import FILTERS


def stock_tokenizer(parts: Parts, **named: str) -> Any:
    """A copy of the tokenizer with the chat template of the export, and ``named`` tokens as attributes of it.

    It pads on the left: answers start where prompts end, and tools that generate in batches pad as the checkpoint says.
    """
    tokenizer = copy.deepcopy(parts.processor.tokenizer)
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"  # the second is what is written
    tokenizer.chat_template = stock_template(parts.processor.template, parts.facts.image_token)
    if named:
        tokenizer._set_model_specific_special_tokens(special_tokens=named)
    return tokenizer


def spare_token(parts: Parts) -> str:
    """A special token that no prompt holds, for processors that want a token of videos.

    A new one would have an id without a row in the embedding, so one of the tokenizer's own plays it, if there is one.
    """
    tokenizer, facts = parts.processor.tokenizer, parts.facts
    taken = (facts.image_token, tokenizer.eos_token, *facts.tokens)
    own = (str(token) for token in tokenizer.get_added_vocab())
    return next((t for t in own if t not in taken and t not in parts.processor.template), "<video>")


def stock_template(template: str, image_token: str | None) -> str:
    """The student's chat template with one image token for each picture, which a stock processor expands itself."""
    if image_token is None:
        return template
    return re.sub(r"image_blocks\s*\[[^\]]*\]", lambda _: repr(image_token), template)


def image_settings(facts: Facts) -> dict[str, Any]:
    """Keyword arguments that every stock image processor knows: a tile's size, filter, mean and deviation."""
    assert facts.contract is not None
    image = facts.contract.image
    side = {"height": image.size, "width": image.size}
    return {
        "size": side,
        "resample": int(FILTERS[image.interpolation]),
        "image_mean": list(image.mean),
        "image_std": list(image.std),
        "do_convert_rgb": True,
    }


def llava_processor(parts: Parts, strategy: str, additional: int) -> Any:
    """LlavaProcessor with CLIP's image processor: one square tile, and one placeholder for each cell.

    Args:
        strategy: ``full``, or ``default`` for a class that leaves out the first token itself.
        additional: tokens beside the grid's, class and registers, before the class leaves one out.
    """
    from transformers import CLIPImageProcessor, LlavaProcessor

    facts = parts.facts
    assert facts.contract is not None
    assert facts.image_token is not None
    settings = image_settings(facts)
    # crop_size is what LlavaProcessor counts tokens by (vLLM asks it to); cropping a square to itself changes nothing.
    images = CLIPImageProcessor(**settings, crop_size=settings["size"], do_center_crop=True)
    return LlavaProcessor(
        image_processor=images,
        tokenizer=stock_tokenizer(parts, image_token=facts.image_token),
        patch_size=facts.contract.image.size // facts.contract.grid[0],
        vision_feature_select_strategy=strategy,
        image_token=facts.image_token,
        num_additional_image_tokens=additional,
        chat_template=stock_template(parts.processor.template, facts.image_token),
    )
