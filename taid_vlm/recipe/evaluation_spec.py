"""The part of a recipe that says what the student is measured on, and when."""

from pydantic import Field, model_validator

from taid_vlm.models.specs import Strict


class DuringSpec(Strict):
    """What an evaluation in the middle of training takes, where it is less than the one at the end."""

    tasks: list[str] | None = Field(None, min_length=1, description="tasks; those of the end when left out")
    limit: int | None = Field(None, ge=1, description="items per task, the same each time; as at the end when left out")


class EvaluationSpec(Strict):
    """What the student is measured on, by ``taid-vlm train`` and the quickstart: when it is trained, and on the way."""

    tasks: list[str] = Field(
        [], description="tasks of the evaluation harness: names, or YAML files written as ./x.yaml"
    )
    limit: int | None = Field(None, ge=1, description="items per task, chosen by a fixed seed")
    batch_size: int = Field(50, ge=1, description="questions answered together")
    every: int | None = Field(
        None,
        ge=1,
        description="optimizer steps between evaluations of the student in training, which change nothing of it; only the one "
        "at the end when left out",
    )
    during: DuringSpec = DuringSpec()
    ema: bool = Field(False, description="measure the average of the weights as well; needs training.ema")

    @property
    def tasks_during(self) -> list[str]:
        """Tasks of an evaluation in the middle of training; the first decides where the best is kept."""
        return self.tasks if self.during.tasks is None else self.during.tasks

    @property
    def limit_during(self) -> int | None:
        """Items of each of them."""
        return self.limit if self.during.limit is None else self.during.limit

    @model_validator(mode="after")
    def _is_used(self) -> "EvaluationSpec":
        if self.every is not None and not self.tasks_during:
            raise ValueError("every needs tasks to measure: set tasks, or during.tasks")
        if self.every is None and self.during != DuringSpec():
            raise ValueError("during is of evaluations in the middle of training: set every, or leave it out")
        return self
