"""What a sharded teacher is run on, so that every process runs the same of its modules: one that does not would let the
others wait for ever for its shards.

All processes ask it equally often. A batch of words alone would leave the vision encoder out, and a batch whose samples were
all dropped everything; both get an idle conversation with a small picture.
"""

from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from taid_vlm.models.native.model import NativeInputs
from taid_vlm.models.native.processor import NativeProcessor
from taid_vlm.models.student import ModelInputs
from taid_vlm.models.teacher import Teacher

PICTURE = (64, 64)
LOOKS = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]
READS = [{"role": "user", "content": "?"}]


class InStep:
    """Completes the inputs of one process.

    Args:
        looks: whether the teacher is given pictures; one that has no encoder, or is given features, is not.
    """

    def __init__(self, teacher: Teacher, device: torch.device, looks: bool) -> None:
        self.processor: Any = teacher.processor
        self.native = isinstance(self.processor, NativeProcessor)
        self.device, self.looks = device, looks
        self.picture = Image.new("RGB", PICTURE)
        sizes = [PICTURE] if looks else []
        ids = self.processor.render(LOOKS if looks else READS, add_generation_prompt=True, sizes=sizes).ids
        self.ids = torch.tensor([ids])

    def __call__(self, inputs: Any) -> Any:
        """The inputs, with an idle sequence behind them where they show no picture; of None the idle sequence alone."""
        if inputs is None:
            none = torch.zeros(0, dtype=torch.long)
            return self._with_picture(self.ids, torch.ones_like(self.ids), none, 0, None).to(self.device)
        if not self.looks or _has_pictures(inputs):
            return inputs
        mine, width = inputs.input_ids, inputs.input_ids.shape[1]
        longer = max(width, self.ids.shape[1])
        pad = self.processor.end_of_turn_id
        idle, ones = self.ids.to(mine), torch.ones_like(self.ids).to(inputs.attention_mask)
        ids = torch.cat([_widened(mine, longer, pad), _widened(idle, longer, pad)])
        mask = torch.cat([_widened(inputs.attention_mask, longer, 0), _widened(ones, longer, 0)])
        rows = inputs.rows // width * longer + inputs.rows % width
        positions = getattr(inputs, "position_ids", None)
        return self._with_picture(ids, mask, rows, len(mine), positions).to(self.device)

    def _with_picture(self, ids: Tensor, mask: Tensor, rows: Tensor, before: int, positions: Tensor | None) -> Any:
        if self.native:
            shown: list[list[Image.Image]] = [[] for _ in range(before)]
            shown.append([self.picture] if self.looks else [])
            return self.processor.inputs(ids, mask, rows, shown)
        inputs = ModelInputs(ids, mask, rows)
        if positions is not None:
            inputs = replace(inputs, position_ids=_documents(positions, self.ids.shape[1], ids.shape[1]))
        if self.looks:
            pixels = self.processor.pixel_values([self.picture])
            return replace(inputs, pixel_values=pixels, tiles=(self.processor.tiles_per_image(PICTURE),))
        # As where features are given: the encoder is run by none, and the projector by all (Student.in_shards).
        return replace(inputs, image_features=torch.zeros(0, 1, 1))


def _has_pictures(inputs: ModelInputs | NativeInputs) -> bool:
    if isinstance(inputs, NativeInputs):
        return "pixel_values" in inputs.tensors
    if inputs.image_features is not None:
        return True
    return inputs.pixel_values is not None and inputs.pixel_values.shape[0] > 0


def _widened(values: Tensor, width: int, fill: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, width - values.shape[1]), value=fill)


def _documents(positions: Tensor, idle: int, width: int) -> Tensor:
    """``[B, L]`` positions of packed rows, and a row that is the idle conversation; padding is a document of its own."""
    added = torch.arange(width - positions.shape[1]).to(positions).expand(len(positions), -1)
    last = torch.cat([torch.arange(idle), torch.arange(width - idle)]).to(positions)
    return torch.cat([torch.cat([positions, added], dim=1), last.unsqueeze(0)])
