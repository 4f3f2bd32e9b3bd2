"""The schema of a recipe: its parts, and what they ask of each other."""

from typing import Any, Literal

from pydantic import Field, model_validator

from taid_vlm.common.secrets import secrets_of
from taid_vlm.models.specs import Strict, StudentSpec
from taid_vlm.recipe.data_spec import DataSpec
from taid_vlm.recipe.evaluation_spec import EvaluationSpec
from taid_vlm.recipe.loss_config import LossConfig
from taid_vlm.recipe.on_policy import OnPolicySpec, check_on_policy
from taid_vlm.recipe.teacher_spec import TeacherSpec
from taid_vlm.recipe.training_spec import TrainingSpec


class Recipe(Strict):
    """One training run."""

    description: str = Field("", description="one line for people")
    seed: int = Field(0, ge=0, description="decides data order, limits and the projector's start")
    student: StudentSpec
    teacher: TeacherSpec | None = Field(None, description="left out for plain fine-tuning")
    data: DataSpec
    loss: LossConfig
    on_policy: OnPolicySpec = OnPolicySpec()
    training: TrainingSpec
    evaluation: EvaluationSpec = EvaluationSpec()
    save: Literal["full", "trained"] = Field("full", description="save all weights, or only those that were trained")

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, content: Any) -> Any:
        # The recipe is saved with the run, shown in reports and cards, and told to trackers.
        for key, secret in secrets_of(content):
            raise ValueError(
                f"{key} holds {secret}, and recipes are written down in many places: leave it out, and set the environment variable that "
                "the server or library reads (VLLM_API_KEY for a served teacher, HF_TOKEN for the hub)"
            )
        return content

    @model_validator(mode="after")
    def _teacher_fits(self) -> "Recipe":
        if self.loss.name != "sft" and self.teacher is None:
            raise ValueError(f"loss {self.loss.name!r} needs a teacher; add one, or set loss.name to sft")
        if self.data.answers == "teacher" and self.teacher is None:
            raise ValueError(
                "data.answers: teacher needs a teacher to write them; add one, or set data.answers: dataset"
            )
        if self.data.answers == "teacher" and self.teacher is not None and self.teacher.placement == "sharded":
            raise ValueError(
                "with data.answers: teacher processes write each at its own pace, and a sharded teacher is asked by all together: set "
                "teacher.placement: offload for one that does not fit"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> "Recipe":
        if self.data.cache_image_features:
            if self.student.vision_encoder is None:
                raise ValueError("data.cache_image_features needs a student with a vision encoder")
            if self.student.train.vision_encoder.mode != "frozen":
                raise ValueError("data.cache_image_features needs student.train.vision_encoder.mode: frozen")
        if self.training.keep_best == "evaluation" and self.evaluation.every is None:
            raise ValueError(
                "training.keep_best: evaluation needs evaluations in the middle of training: set evaluation.every"
            )
        if self.training.keep_best not in (None, "evaluation") and not self.data.validation:
            raise ValueError("training.keep_best needs held-out samples: set data.validation")
        if self.evaluation.ema and self.training.ema is None:
            raise ValueError("evaluation.ema measures the average of the weights: set training.ema, or leave it out")
        if self.training.warmup_steps >= self.training.steps:
            raise ValueError(f"warmup_steps {self.training.warmup_steps} must be below steps {self.training.steps}")
        check_on_policy(self)
        return self
