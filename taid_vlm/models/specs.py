"""What a student is made of, as data: the part of a recipe that also travels with the saved student.

Light to import (no torch), because recipes are checked before anything heavy is loaded.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from taid_vlm.common.plug_ins import near_or_outside
from taid_vlm.models.encoders.libraries import LIBRARIES


class Strict(BaseModel):
    """Unknown keys are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VisionEncoderSpec(Strict):
    """Which encoder reads the picture, from which library, at which size."""

    library: str = Field(
        description="library that builds the encoder: timm, open_clip, transformers, or one of a package (docs/plug-ins.md)"
    )
    name: str = Field(description="model name in that library, hub id, or a folder written as ./x, /x or ~/x")
    weights: str = Field(
        "pretrained",
        description="'pretrained' (from the hub), 'random', or a weight file: a path or asset:NAME/path",
    )
    weights_match: Literal["names", "order"] = Field(
        "names",
        description="how a weight file is matched to the model: by parameter names, or by order (all shapes must agree)",
    )
    image_size: int = Field(description="side of the square input in pixels", ge=8, le=4096)
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] | None = Field(
        None, description="resampling filter; the encoder's own when left out"
    )
    feature: Literal["normed"] | Annotated[int, Field(le=-1)] = Field(
        "normed",
        description="what is read: normed (the encoder's final output), or -1, -2, ... (output of the last block, of the "
        "one before it, ...; no final norm). It decides which stock class can hold the student",
    )
    prefix_tokens: Literal["drop", "keep"] = Field(
        "drop", description="class and register tokens: dropped, or kept as image tokens before those of the grid"
    )

    @field_validator("library")
    @classmethod
    def _is_there(cls, library: str) -> str:
        known = LIBRARIES.names()
        if library not in known:
            raise ValueError(f"unknown vision encoder library {library!r}: {near_or_outside(library, known)}")
        return library


class ProjectorSpec(Strict):
    """What joins the encoder's features to the language model's embeddings."""

    name: str = Field(
        "mlp",
        description="exact name of a projector: linear, mlp, pixel_shuffle_linear, pixel_shuffle_mlp, "
        "ln_pixel_shuffle_mlp, mlp_avg_pool, perceiver, ldp_v2",
    )
    options: dict[str, bool | int | float] = Field(
        {}, description="options of the projector by their names, for example {factor: 3} of pixel_shuffle_linear"
    )
    weights: str = Field(
        "random", description="'random', or a safetensors file of its parameters: a path or asset:NAME/path"
    )


class ImagesSpec(Strict):
    """How a picture becomes tiles, and which text stands around its tokens."""

    style: Literal["plain", "internvl", "smolvlm", "lfm2_vl"] = Field(
        "plain",
        description="text around the tokens of a picture, as the stock processor of that name writes it; plain is none",
    )
    tiling: Literal["none", "dynamic", "split"] = Field(
        "none",
        description="none: one tile, the whole picture; dynamic: the grid of tiles nearest in shape (InternVL); "
        "split: rows and columns (SmolVLM, needs style smolvlm)",
    )
    min_tiles: int = Field(1, ge=1, description="dynamic: fewest tiles of a picture, the thumbnail not counted")
    max_tiles: int = Field(6, ge=1, description="dynamic: most tiles of a picture, the thumbnail not counted")
    thumbnail: bool = Field(True, description="dynamic: the whole picture follows its tiles, if they are several")
    longest_edge: int | None = Field(
        None, ge=8, description="split: the longer side is resized to it first; four tiles when left out"
    )

    @model_validator(mode="after")
    def _fit(self) -> "ImagesSpec":
        if self.min_tiles > self.max_tiles:
            raise ValueError(f"min_tiles {self.min_tiles} is above max_tiles {self.max_tiles}")
        if (self.tiling == "split") and self.style != "smolvlm":
            raise ValueError(
                f"tiling split marks rows and columns in the text, which style {self.style!r} does not: set style smolvlm"
            )
        if self.tiling == "dynamic" and self.style == "smolvlm":
            raise ValueError("style smolvlm has no text for dynamic tiling: set tiling split, or style internvl")
        return self


class LanguageModelSpec(Strict):
    """A causal language model, whole or cut down to some of its layers."""

    source: str = Field(description="hub id, folder written as ./x, /x or ~/x, or asset:NAME/path")
    gguf_file: str | None = Field(None, description="file inside the source, when the weights are GGUF")
    revision: str | None = Field(None, description="commit or tag on the hub")
    trust_remote_code: bool = Field(False, description="run code that comes with the checkpoint; never by default")
    layers: int | list[int] | None = Field(
        None,
        description="a list of layers to keep, or how many (evenly spaced, first and last kept); all when left out",
    )


class LoraSpec(Strict):
    """Low-rank adapters (LoRA, arXiv 2106.09685) on linear layers."""

    rank: int = Field(8, ge=1, description="inner dimension r")
    alpha: float = Field(16.0, gt=0, description="scale: the update is alpha / rank * B A x")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before A")
    targets: list[str] | Literal["all"] = Field(
        "all",
        min_length=1,
        description="names of the linear layers that get an adapter; all is every one but the head",
    )


class VisionEncoderTraining(Strict):
    """How the vision encoder is trained."""

    mode: Literal["frozen", "full", "lora"] = Field("frozen", description="frozen, full, or lora")
    lr: float | None = Field(None, gt=0, description="peak learning rate of this part; training.lr when left out")
    lora: LoraSpec = Field(LoraSpec(), description="used when mode is lora")


class PartTraining(Strict):
    """How one part is trained."""

    mode: Literal["frozen", "full"] = Field("frozen", description="frozen, or all parameters trained")
    lr: float | None = Field(None, gt=0, description="peak learning rate of this part; training.lr when left out")


class LanguageModelTraining(Strict):
    """How the language model is trained."""

    mode: Literal["frozen", "full", "lora"] = Field("full", description="frozen, full, or lora")
    lr: float | None = Field(None, gt=0, description="peak learning rate of this part; training.lr when left out")
    embeddings: Literal["frozen", "full"] = Field("full", description="the token embeddings (and a head tied to them)")
    lora: LoraSpec = Field(LoraSpec(), description="used when mode is lora")


class TrainedParts(Strict):
    """Which parts learn."""

    vision_encoder: VisionEncoderTraining = VisionEncoderTraining()
    projector: PartTraining = PartTraining(mode="full")
    language_model: LanguageModelTraining = LanguageModelTraining()


class StudentSpec(Strict):
    """A student: language model alone, or vision encoder + projector + language model."""

    vision_encoder: VisionEncoderSpec | None = None
    projector: ProjectorSpec | None = None
    language_model: LanguageModelSpec
    chat_template: str = Field("chatml", description="name of one of our chat templates, or a .jinja file")
    image_token: str | None = Field(
        None, description="token that stands for one visual token: an unused special token of the tokenizer"
    )
    added_tokens: list[str] = Field(
        [],
        description="special tokens that the tokenizer gets if it lacks them, such as <img> and </img>; spare rows of the "
        "embedding are used before it is enlarged",
    )
    images: ImagesSpec = ImagesSpec()
    train: TrainedParts = TrainedParts()

    @model_validator(mode="after")
    def _vision_parts_come_together(self) -> "StudentSpec":
        given = [self.vision_encoder is not None, self.projector is not None, self.image_token is not None]
        if any(given) and not all(given):
            raise ValueError(
                "a vision-language student needs vision_encoder, projector and image_token together; a plain language "
                "model has none of them"
            )
        return self
