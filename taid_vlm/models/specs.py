"""What a student is made of, as data: the part of a recipe that also travels with the saved student.

Light to import (no torch), because recipes are checked before anything heavy is loaded.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """Unknown keys are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VisionEncoderSpec(Strict):
    """Which encoder reads the picture, from which library, at which size."""

    library: Literal["timm", "open_clip", "transformers"] = Field(description="library that builds the encoder")
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
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = Field(
        None, description="resampling filter; the encoder's own when left out"
    )


class ProjectorSpec(Strict):
    """What joins the encoder's features to the language model's embeddings."""

    name: str = Field("mlp", description="exact name of a projector: linear, mlp")


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
    """Low-rank adapters (LoRA, arXiv 2106.09685) on linear layers of the language model."""

    rank: int = Field(8, ge=1, description="inner dimension r")
    alpha: float = Field(16.0, gt=0, description="scale: the update is alpha / rank * B A x")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before A")
    targets: list[str] = Field(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        min_length=1,
        description="names of the linear layers that get an adapter",
    )


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

    vision_encoder: PartTraining = PartTraining()
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
