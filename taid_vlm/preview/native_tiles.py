"""The tiles of a stock processor, read back from the tensors that it makes."""

import torch
from PIL import Image
from torch import Tensor

from taid_vlm.models.native.processor import NativeProcessor


def native_tiles(processor: NativeProcessor, image: Image.Image, together: int = 1) -> list[Image.Image]:
    """What the model sees of an RGB picture: its tiles in the order of their tokens, or one where it is not cut.

    Args:
        together: pictures of the conversation; LLaVA-OneVision cuts a picture only where it is alone.
    """
    copies = min(2, together)
    pictures = processor.stock.image_processor
    out = pictures([[image] * copies], return_tensors="pt", **processor.family.image_options)
    if "image_grid_thw" in out:  # Qwen: patches in the order of the model, not of the picture
        _, rows, columns = (int(n) for n in out["image_grid_thw"][0])
        return [image.resize((columns * pictures.patch_size, rows * pictures.patch_size), Image.Resampling.BICUBIC)]
    pixels = torch.as_tensor(out["pixel_values"]).float()
    pixels = pixels.reshape(-1, *pixels.shape[-3:])  # [tiles of all copies, 3, H, W]
    if pictures.do_normalize:
        pixels = pixels * _channels(pictures.image_std) + _channels(pictures.image_mean)
    pixels = (pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
    return [Image.fromarray(tile.numpy()) for tile in pixels[: len(pixels) // copies]]


def _channels(values: float | list[float]) -> Tensor:
    return torch.as_tensor(values).reshape(-1, 1, 1)
