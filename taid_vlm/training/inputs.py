"""From one side of a batch to what a model takes."""

from itertools import islice
from typing import Any

from taid_vlm.data.collate import PaddedSide, PairedBatch
from taid_vlm.models.native.processor import NativeProcessor
from taid_vlm.models.processor import Processor
from taid_vlm.models.student import ModelInputs
from taid_vlm.models.teacher import Teacher
from taid_vlm.training.features import FeatureStore


def model_inputs(batch: PairedBatch, side: PaddedSide, processor: Processor, store: FeatureStore | None) -> ModelInputs:
    """Tokens, rows and pictures for one model; stored features stand in for pixels where there are any."""
    features = pixels = None
    tiles: tuple[int, ...] = ()
    if store is not None:
        features, tiles = store.take(batch.picture_keys), store.tiles(batch.picture_keys)
    elif side.pixel_values is not None:
        pixels, tiles = side.pixel_values, side.tiles
    elif batch.pictures and processor.images is not None:
        pixels = processor.pixel_values(batch.pictures)
        tiles = tuple(processor.tiles_per_image(picture.size) for picture in batch.pictures)
    return ModelInputs(side.input_ids, side.attention_mask, side.rows, pixels, features, tiles, side.position_ids)


def teacher_inputs(batch: PairedBatch, side: PaddedSide, teacher: Teacher, store: FeatureStore | None) -> Any:
    """What the teacher's :meth:`Teacher.hidden` takes: our inputs, or those of a stock model, which brings its own pictures' tensors."""
    if not isinstance(teacher.processor, NativeProcessor):
        return model_inputs(batch, side, teacher.processor, store)
    left = iter(batch.pictures)
    by_sample = [list(islice(left, count)) for count in batch.picture_counts]
    return teacher.processor.inputs(side.input_ids, side.attention_mask, side.rows, by_sample)
