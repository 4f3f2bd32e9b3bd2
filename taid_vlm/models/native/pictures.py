"""The text that a stock processor puts in a picture's place, told from the size of the picture alone.

Sizes are (width, height), upright. Each rule takes the sizes of all pictures of one conversation, for LLaVA-OneVision cuts a picture only
where it is alone. The numbers come from the checkpoint's own processor, which keeps functions for this (vLLM asks them too); where such
a function fails or is missing, the rule is written out here.
"""

from collections.abc import Callable, Sequence
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.models.image_text import image_text
from taid_vlm.models.tiling import Grid, Size

PictureTexts = Callable[[Any, Sequence[Size]], list[str]]


def internvl(processor: Any, sizes: Sequence[Size]) -> list[str]:
    """``<img>``, the tokens of all tiles, ``</img>``."""
    per_tile = processor.image_token * processor.image_seq_length
    options = {"crop_to_patches": True}  # what the stock processor asks of its image processor
    tiles = [processor.image_processor.get_number_of_image_patches(height, width, options) for width, height in sizes]
    return [processor.start_image_token + per_tile * count + processor.end_image_token for count in tiles]


def qwen_vl(processor: Any, sizes: Sequence[Size]) -> list[str]:
    """One token for each square of ``merge_size`` x ``merge_size`` patches; the markers are in the template."""
    pictures = processor.image_processor
    patches = [pictures.get_number_of_image_patches(height, width, {}) for width, height in sizes]
    return [processor.image_token * (count // pictures.merge_size**2) for count in patches]


def smolvlm(processor: Any, sizes: Sequence[Size]) -> list[str]:
    """Tiles with the markers of their rows and columns, the whole picture last."""
    tile = processor.image_token * processor.image_seq_len
    texts = []
    for width, height in sizes:
        _, rows, columns = processor.image_processor.get_number_of_image_patches(height, width, {})
        texts.append(image_text("smolvlm", tile, Grid(rows, columns, whole=True) if rows else Grid(1, 1)))
    return texts


def llava(processor: Any, sizes: Sequence[Size]) -> list[str]:
    """As many tokens as the tower has patches, whatever the picture.

    The stock function for this fails with image processors that do not crop (SigLIP's).

    Raises:
        UserError: an image processor that neither crops nor resizes to one size.
    """
    pictures = processor.image_processor
    size = pictures.crop_size if getattr(pictures, "do_center_crop", False) else pictures.size
    if "height" not in size or "width" not in size or not size["height"]:
        raise UserError(
            f"the teacher's image processor {type(pictures).__name__} gives pictures of no fixed size ({dict(size)}); a checkpoint "
            f"whose preprocessor_config.json has a size with height and width, or crops, was expected"
        )
    count = (size["height"] // processor.patch_size) * (size["width"] // processor.patch_size)
    count += processor.num_additional_image_tokens - (processor.vision_feature_select_strategy == "default")
    return [processor.image_token * count] * len(sizes)


def llava_next(processor: Any, sizes: Sequence[Size]) -> list[str]:
    """The whole picture, then its tiles without their padding, each row of patches closed by one token."""
    upright = [(height, width) for width, height in sizes]
    counts = processor._get_num_multimodal_tokens(image_sizes=upright)["num_image_tokens"]
    return [processor.image_token * int(count) for count in counts]


def llava_onevision(processor: Any, sizes: Sequence[Size]) -> list[str]:
    """As LLaVA-NeXT where the picture is alone; of several, each is one tile and a closing token."""
    if len(sizes) == 1:
        return llava_next(processor, sizes)
    count = processor.num_image_tokens + 1 - (processor.vision_feature_select_strategy == "default")
    return [processor.image_token * count] * len(sizes)


def gemma3(processor: Any, sizes: Sequence[Size]) -> list[str]:
    """The same for every picture.

    Raises:
        UserError: pan and scan is on, whose crops no stock function counts.
    """
    if processor.image_processor.do_pan_and_scan:
        raise UserError(
            "the teacher's preprocessor_config.json asks for pan and scan (do_pan_and_scan: true), whose tokens cannot be told from the "
            "size of a picture; set it to false, as in the released checkpoints"
        )
    return [processor.full_image_sequence] * len(sizes)
