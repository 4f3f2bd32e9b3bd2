"""The libraries that vision encoders come from. No library, nor torch, is imported before an encoder of it is built."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.plug_ins import VISION_ENCODERS, PlugIn
from taid_vlm.common.registry import Registry

if TYPE_CHECKING:
    from taid_vlm.models.encoders.contract import Source
    from taid_vlm.models.specs import VisionEncoderSpec

MakeSource = Callable[["VisionEncoderSpec", str], "Source"]  # (spec, weights: those of the spec, or "random") -> source


def _adopted(plug_in: PlugIn, found: Any) -> MakeSource:
    """What a package brings, checked when it has made a source."""

    def source(spec: "VisionEncoderSpec", weights: str) -> "Source":
        from taid_vlm.models.encoders.contract import Source

        made = found(spec, weights)
        if not isinstance(made, Source):
            raise UserError(f"{plug_in.what} gives {type(made).__name__}, expected a taid_vlm.plug_ins.Source")
        return made

    return source


LIBRARIES: Registry[MakeSource] = Registry("vision encoder library", VISION_ENCODERS, _adopted)


@LIBRARIES.register("timm")
def _timm(spec: "VisionEncoderSpec", weights: str) -> "Source":
    from taid_vlm.models.encoders.from_timm import timm_source

    return timm_source(spec, weights)


@LIBRARIES.register("open_clip")
def _open_clip(spec: "VisionEncoderSpec", weights: str) -> "Source":
    from taid_vlm.models.encoders.from_open_clip import open_clip_source

    return open_clip_source(spec, weights)


@LIBRARIES.register("transformers")
def _transformers(spec: "VisionEncoderSpec", weights: str) -> "Source":
    from taid_vlm.models.encoders.from_transformers import transformers_source

    return transformers_source(spec, weights)
