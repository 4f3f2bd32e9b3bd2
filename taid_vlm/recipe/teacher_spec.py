"""The part of a recipe that says who teaches, and where its weights are."""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from taid_vlm.models.specs import LanguageModelSpec, Strict
from taid_vlm.recipe.teacher_cache import TeacherCache


class TeacherSpec(Strict):
    """Who teaches: a stock vision-language model, a saved model of this toolkit, or a plain language model."""

    checkpoint: str | None = Field(
        None,
        description="hub id or folder of a vision-language model of transformers (see docs/teachers.md), folder of a saved "
        "student, or recipes:PATH of a shipped one",
    )
    revision: str | None = Field(None, description="commit or tag of a checkpoint on the hub")
    trust_remote_code: bool = Field(
        False, description="run the code of a saved student's language model (checkpoint); never by default"
    )
    language_model: LanguageModelSpec | None = Field(None, description="a causal language model (language-only)")
    chat_template: str | None = Field(
        None,
        description="one of our chat templates, or a .jinja file; that of the checkpoint's family when left out, chatml for a "
        "plain language model. A saved student brings its own",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of the weights in memory, of a stock or plain model; bfloat16 is half the memory, and needs "
        "training.precision bf16. A saved student has float32",
    )
    cache: TeacherCache = TeacherCache()
    placement: Literal["replicated", "sharded", "offload", "quantized", "served"] = Field(
        "replicated",
        description="where its weights are: whole on each process, in shards over the processes, in the processor's memory and "
        "layer by layer on the accelerator, quantized, or on a server; see docs/teacher-placement.md",
    )
    quantization: Literal["int8", "int4", "nf4"] | None = Field(
        None, description="of placement quantized: int8 and int4 by torchao, nf4 by bitsandbytes"
    )
    url: str | None = Field(
        None, description="placement served: http://HOST:PORT of a vLLM server; see docs/served-teacher.md"
    )
    served_model: str | None = Field(
        None, description="placement served: the model's name there; not needed where it serves one"
    )
    top_k: int | None = Field(
        None, ge=1, description="placement served: how many of the likeliest tokens are known of a row"
    )
    tail: Literal["uniform", "none"] | None = Field(
        None,
        description="placement served: the mass that the top_k leave is spread evenly over the other tokens (uniform), or the "
        "others are taken for impossible (none; not every loss can)",
    )

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Recipes of runs that were begun before there was this key are compared as texts.
        content: dict[str, Any] = write(self)
        if not self.trust_remote_code:
            content.pop("trust_remote_code", None)  # not there where defaults are left out
        return content

    @model_validator(mode="after")
    def _asked(self) -> "TeacherSpec":
        needed = {"url": self.url, "top_k": self.top_k, "tail": self.tail}
        if self.placement != "served":
            given = [key for key, value in {**needed, "served_model": self.served_model}.items() if value is not None]
            if given:
                raise ValueError(
                    f"{', '.join(given)} of a teacher are for placement: served; set it, or leave them out"
                )
            return self
        missing = [key for key, value in needed.items() if value is None]
        if missing:
            raise ValueError(f"placement: served needs {', '.join(missing)}; see docs/served-teacher.md")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url is {self.url!r}, expected http://HOST:PORT or https://HOST:PORT")
        return self

    @model_validator(mode="after")
    def _placed(self) -> "TeacherSpec":
        if (self.placement == "quantized") != (self.quantization is not None):
            raise ValueError(
                "placement: quantized and quantization (int8, int4 or nf4) go together: a teacher is quantized by explicit choice only"
            )
        if self.placement == "sharded" and self.cache.enabled:
            raise ValueError(
                "processes fill a cache each at its own pace, and a sharded teacher is asked by all together: set placement: offload for "
                "a teacher that does not fit, or cache: {enabled: false}"
            )
        return self

    @model_validator(mode="after")
    def _one_kind(self) -> "TeacherSpec":
        if (self.checkpoint is None) == (self.language_model is None):
            raise ValueError("give either checkpoint or language_model")
        return self
