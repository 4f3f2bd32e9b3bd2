"""The part of a recipe that says what is kept of the teacher, and when it is computed."""

from typing import Literal

from pydantic import Field, model_validator

from taid_vlm.models.specs import Strict


class TeacherCache(Strict):
    """Keep the teacher's hidden states at answer rows on disk: exact for every loss, student and epoch."""

    enabled: bool = Field(False, description="run the teacher once over the data instead of in every step")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="how the hidden states are stored, or the log-probabilities of top_k"
    )
    fill: Literal["before", "first_epoch"] = Field(
        "before",
        description="before: a pass over all samples before the first step; first_epoch: in the step in which a sample first comes by",
    )
    top_k: int | None = Field(
        None,
        ge=1,
        description="store the log-probabilities of so many of the likeliest tokens instead of hidden states",
    )
    tail: Literal["uniform", "none"] | None = Field(
        None,
        description="of top_k: the mass that they leave is spread evenly over the other tokens (uniform), or the others are taken for "
        "impossible (none; not every loss can)",
    )

    @model_validator(mode="after")
    def _fits(self) -> "TeacherCache":
        if (self.top_k is None) != (self.tail is None):
            raise ValueError("top_k and tail (uniform or none) of a cache go together: give both or neither")
        if self.top_k is not None and self.dtype == "bfloat16":
            raise ValueError(
                "log-probabilities in bfloat16 would be wrong in their third digit: with top_k set dtype float16 or float32"
            )
        return self
