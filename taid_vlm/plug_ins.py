"""What a package needs that brings a part of its own: a vision encoder, a projector, a loss, a data source. See ``docs/plug-ins.md``."""

from taid_vlm.common.errors import UserError
from taid_vlm.data.record import Record
from taid_vlm.losses.methods import Divergence
from taid_vlm.models.encoders.contract import EncoderContract, ImageInput, Source
from taid_vlm.models.encoders.weights import load_weights
from taid_vlm.models.projectors.registry import Projector, scale_last
from taid_vlm.models.specs import VisionEncoderSpec
from taid_vlm.recipe.data_spec import DataSource

__all__ = [
    "DataSource",
    "Divergence",
    "EncoderContract",
    "ImageInput",
    "Projector",
    "Record",
    "Source",
    "UserError",
    "VisionEncoderSpec",
    "load_weights",
    "scale_last",
]
