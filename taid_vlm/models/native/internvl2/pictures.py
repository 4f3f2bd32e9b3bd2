"""The stock processor that cuts pictures, and asks, as the original does."""

import re
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.models.chat_template import end_of_turn, template_text
from taid_vlm.models.native.internvl2.original import Original
from taid_vlm.models.native.internvl2.tokenizer import CONTEXT

# The original's name of a conversation form, and ours. Hermes-2 and internlm2-chat are one text.
TEMPLATES = {
    "internlm2-chat": "internlm2",
    "Hermes-2": "internlm2",
    "phi3-chat": "internvl2_phi3",
    "internvl2_5": "internvl2_5",
}
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def template_name(original: Original, tokenizer: Any) -> str:
    """Ours that writes what the original does.

    Raises:
        UserError: a form that is not known, or one that would write a BOS which the original leaves out.
    """
    found = original.top.get("template")
    if found not in TEMPLATES:
        raise UserError(f"the checkpoint asks in the form {found!r}, expected one of {', '.join(TEMPLATES)}")
    name = TEMPLATES[found]
    bos = tokenizer.bos_token
    if bos is not None and "bos_token" in template_text(name) and tokenizer.encode("") != [tokenizer.bos_token_id]:
        raise UserError(
            f"the checkpoint's tokenizer knows {bos!r} but opens no text with it; the template {name!r} would"
        )
    return name


def stock_template(name: str) -> str:
    """The template for a stock processor, which puts the tokens of a picture in the place of one."""
    return re.sub(r"image_blocks\s*\[[^\]]*\]", lambda _: repr(CONTEXT), template_text(name))


def processor_of(original: Original, tokenizer: Any) -> Any:
    """InternVLProcessor, which tiles as the original: bicubic, the nearest grid, a thumbnail behind several tiles.

    Of its two backends Pillow gives the original's pixels; torchvision, the default of transformers, rounds otherwise.

    Raises:
        UserError: see :func:`template_name`.
    """
    from transformers import InternVLProcessor, InternVLVideoProcessor
    from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor

    side = {"height": original.image_size, "width": original.image_size}
    dynamic = bool(original.top.get("dynamic_image_size"))
    shared: dict[str, Any] = {
        "size": side,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
        "resample": 3,
        "do_convert_rgb": True,
    }
    images = GotOcr2ImageProcessor(
        **shared,
        crop_to_patches=dynamic,
        min_patches=int(original.top.get("min_dynamic_patch", 1)) if dynamic else 1,
        max_patches=int(original.top.get("max_dynamic_patch", 6)) if dynamic else 1,
    )
    template = stock_template(template_name(original, tokenizer))
    tokenizer.chat_template = template
    return InternVLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(**shared),
        image_seq_length=original.tokens_per_tile,
        chat_template=template,
    )


def end_token(original: Original, tokenizer: Any) -> int:
    """With which an answer ends: the original's separator, and nothing else."""
    return end_of_turn(tokenizer, template_text(template_name(original, tokenizer)))
