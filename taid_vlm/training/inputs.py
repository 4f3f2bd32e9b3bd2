"""From one side of a batch to what a model takes."""

from taid_vlm.data.collate import PaddedSide, PairedBatch
from taid_vlm.models.processor import Processor
from taid_vlm.models.student import ModelInputs
from taid_vlm.training.features import FeatureStore


def model_inputs(batch: PairedBatch, side: PaddedSide, processor: Processor, store: FeatureStore | None) -> ModelInputs:
    """Tokens, rows and pictures for one model; stored features stand in for pixels where there are any."""
    features = pixels = None
    tiles: tuple[int, ...] = ()
    if store is not None:
        features, tiles = store.take(batch.picture_keys), store.tiles(batch.picture_keys)
    elif batch.pictures and processor.images is not None:
        pixels = processor.pixel_values(batch.pictures)
        tiles = tuple(processor.tiles_per_image(picture.size) for picture in batch.pictures)
    return ModelInputs(side.input_ids, side.attention_mask, side.rows, pixels, features, tiles)
