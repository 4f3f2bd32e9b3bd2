"""Features of a frozen vision encoder, computed once for each picture."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from taid_vlm.common.errors import UserError
from taid_vlm.data.images import open_image
from taid_vlm.data.pictures import Picture
from taid_vlm.data.record import BadSampleError, Broken
from taid_vlm.models.fingerprint import weights_digest
from taid_vlm.models.images import to_pixel_values
from taid_vlm.models.specs import ImagesSpec, VisionEncoderSpec
from taid_vlm.models.tiling import decides_pixels, tiles_of
from taid_vlm.models.vision_encoder import VisionEncoder

BATCH = 32


class FeatureStore:
    """Features ``[tiles, N, C]`` in fp32 by picture, for one frozen encoder and one way to cut pictures.

    Every tile is encoded in the same batch whatever the run does later, so that a resumed run sees the same bits.
    """

    def __init__(self, spec: VisionEncoderSpec, images: ImagesSpec = ImagesSpec()) -> None:
        self.spec, self.images = spec, images
        self._features: dict[Picture, Tensor] = {}
        self.bad: dict[Picture, Broken] = {}
        self._weights: str | None = None  # of the encoder; unknown until it is first used

    def fits(self, spec: VisionEncoderSpec | None, encoder: VisionEncoder | None, images: ImagesSpec) -> bool:
        """Whether these are the features of this encoder: the same spec may stand for other weights, drawn or trained."""
        same_tiles = decides_pixels(images) == decides_pixels(self.images)
        if encoder is None or spec != self.spec or not same_tiles:
            return False
        return self._weights in (None, weights_digest(encoder))

    @torch.no_grad()
    def add(
        self,
        encoder: VisionEncoder,
        pictures: Iterable[Picture],
        skip_bad: bool,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Encode the pictures that are not known yet, with the one encoder that the store :meth:`fits`.

        Raises:
            UserError: a picture that cannot be read, unless bad ones are skipped (then they are listed in ``bad``).
        """
        self._weights = weights_digest(encoder)
        todo = [path for path in dict.fromkeys(pictures) if path not in self._features and path not in self.bad]
        device = next(encoder.parameters()).device
        encoder.eval()
        for start in range(0, len(todo), BATCH):
            opened = []
            for path in todo[start : start + BATCH]:
                try:
                    opened.append((path, open_image(path)))
                except BadSampleError as error:
                    if not skip_bad:
                        raise UserError(f"{error}; repair it, or set data.on_bad_sample: skip") from error
                    self.bad[path] = Broken(error.reason, str(error))
            if opened:
                settings = encoder.contract.image
                cut = [tiles_of(image, settings.size, settings.interpolation, self.images) for _, image in opened]
                tiles = [tile for some in cut for tile in some]
                encoded = [
                    encoder(to_pixel_values(tiles[i : i + BATCH], settings).to(device)).float().cpu()
                    for i in range(0, len(tiles), BATCH)
                ]
                features = torch.cat(encoded).split([len(some) for some in cut])
                for (path, _), own in zip(opened, features, strict=True):
                    self._features[path] = own.clone()
            if progress is not None:
                progress(min(start + BATCH, len(todo)), len(todo))

    def take(self, pictures: list[Picture]) -> Tensor:
        """Features ``[T, N, C]`` of all tiles of some pictures, in order."""
        if not pictures:
            return torch.zeros(0, 1, 1)
        return torch.cat([self._features[path] for path in pictures])

    def tiles(self, pictures: list[Picture]) -> tuple[int, ...]:
        """How many tiles each of some pictures has."""
        return tuple(len(self._features[path]) for path in pictures)
