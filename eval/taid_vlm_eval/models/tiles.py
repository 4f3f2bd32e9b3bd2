"""How many tiles the image processors of transformers may cut a picture into."""

import math
from typing import Any

from PIL import Image

# Family of the image processor -> its setting that limits tiles. The other families do not cut pictures, or into grids that their model's
# config fixes as well (LLaVA-NeXT, LLaVA-OneVision), so that a limit for one task is not theirs to keep.
SETTINGS = {
    "got_ocr2": "max_patches",  # InternVL as well
    "cohere2_vision": "max_patches",
    "deepseek_ocr2": "max_patches",
    "ovis2": "max_patches",
    "llama4": "max_patches",
    "lfm2_vl": "max_tiles",
    "perception_lm": "max_num_tiles",
    "mllama": "max_image_tiles",
    "molmo2": "max_crops",
    "idefics3": "size",
    "smolvlm": "size",
}
# Their models have no room for more tiles than the checkpoint says.
NEVER_MORE = ("mllama", "molmo2", "idefics3", "smolvlm")


def tiles_setting(processor: Any) -> str:
    """By which setting of the image processor a limit of tiles is kept; "" where there is none."""
    return SETTINGS.get(_family(processor), "")


def tiles_arguments(processor: Any, max_tiles: int | None) -> dict[str, Any]:
    """Arguments of the image processor for at most ``max_tiles`` tiles; none where it does not know of tiles.

    A picture of the whole beside the tiles is not counted, as in the checkpoints' own limits. Idefics3 and SmolVLM resize every picture
    until its longer side is a number of tiles: here as many as make a square within the limit.
    """
    family, setting = _family(processor), tiles_setting(processor)
    if max_tiles is None or not setting:
        return {}
    images = processor.image_processor
    if setting == "size":
        edge = math.isqrt(max_tiles) * images.max_image_size["longest_edge"]
        return {"size": {"longest_edge": min(images.size["longest_edge"], edge)}}
    most = min(max_tiles, getattr(images, setting)) if family in NEVER_MORE else max_tiles
    # The lower limit comes down with the upper one, or no grid would be left.
    lowest = {"max_patches": "min_patches", "max_tiles": "min_tiles"}.get(setting, "")
    if getattr(images, lowest, 0) > most:
        return {setting: most, lowest: most}
    return {setting: most}


class TokenCounts:
    """How many tokens pictures become, by their sizes alone."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int | None], int] = {}

    def count(self, processor: Any, width: int, height: int, max_tiles: int | None) -> int:
        """Tokens of a picture of so many pixels, with the markers around it; found by reading a blank one where the processor cannot tell.

        0 for one that the processor refuses, as some do with extremely narrow ones.
        """
        key = (width, height, max_tiles)
        if key not in self._known:
            try:
                self._known[key] = _told(processor, *key) or _read(processor, *key)
            except Exception:  # of many types; the item is told when it is asked
                self._known[key] = 0
        return self._known[key]


def _told(processor: Any, width: int, height: int, max_tiles: int | None) -> int:
    tell = getattr(processor, "_get_num_multimodal_tokens", None)
    if tell is None:
        return 0
    told = tell(image_sizes=[(height, width)], **tiles_arguments(processor, max_tiles))
    return int(told["num_image_tokens"][0])


def _read(processor: Any, width: int, height: int, max_tiles: int | None) -> int:
    from taid_vlm_eval.models.assembling import read_picture

    picture = read_picture(processor, Image.new("RGB", (width, height), "gray"), max_tiles)
    return len(processor.tokenizer(picture.text, add_special_tokens=False)["input_ids"])


def _family(processor: Any) -> str:
    """The folder of transformers that the image processor comes from."""
    module = type(processor.image_processor).__module__.split(".")
    return module[-2] if len(module) > 1 else ""
