"""The part of a recipe that says when the student is taught on answers of its own."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from taid_vlm.models.specs import Strict

if TYPE_CHECKING:
    from taid_vlm.recipe.schema import Recipe


class ReplaySpec(Strict):
    """Answers that are kept to be learnt from again."""

    capacity: int | None = Field(
        None,
        ge=0,
        description="answers kept over all processes, the oldest goes first; when left out 0 with mixed (GKD learns from what it has "
        "just written) and 1000 with adaptive (DistiLLM). Above 0, mixed learns from draws of the buffer, as the TAID authors' code does",
    )


class AdaptiveSpec(Strict):
    """How the share of the student's own answers rises when the held-out loss does (DistiLLM)."""

    start: float = Field(0.0, ge=0, le=1, description="share at the start")
    rise: float = Field(0.1, ge=0, le=1, description="what it gains each time the held-out loss has risen, up to 1")
    tolerance: float = Field(
        0.1, ge=0, description="by how much the held-out cross-entropy must have risen; it is then compared anew"
    )


class OnPolicySpec(Strict):
    """Answers that the student writes itself, in place of the data set's; see docs/on-policy.md."""

    sampler: Literal["none", "mixed", "adaptive"] = Field(
        "none",
        description="none: the answers of the data set; mixed: a fixed share is the student's (GKD, arXiv 2306.13649); adaptive: a "
        "share that rises, with a replay buffer (DistiLLM, arXiv 2402.03898)",
    )
    share: float = Field(
        0.5, ge=0, le=1, description="mixed: probability that an answer is the student's (GKD's lambda)"
    )
    draw: Literal["step", "sample"] = Field(
        "step",
        description="step: all samples of an optimizer step alike, as in the papers; sample: each by its own draw",
    )
    after: int = Field(
        0,
        ge=0,
        description="optimizer steps on the data set's answers first; the papers begin with a student that was fine-tuned before",
    )
    temperature: float = Field(1.0, ge=0, description="of the student's words; 0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="only the likeliest tokens that together have this probability")
    top_k: int = Field(0, ge=0, description="only so many of the likeliest tokens; 0 is all")
    max_new_tokens: int = Field(
        512,
        ge=1,
        description="longest answer; data.max_length limits it too. A longer one is cut, and not taught to end there",
    )
    batch_size: int = Field(32, ge=1, description="answers that a process writes together")
    replay: ReplaySpec = ReplaySpec()
    adaptive: AdaptiveSpec = AdaptiveSpec()

    @property
    def capacity(self) -> int:
        """Answers in the replay buffers of all processes together."""
        usual = 1000 if self.sampler == "adaptive" else 0
        return usual if self.replay.capacity is None else self.replay.capacity


def check_on_policy(recipe: "Recipe") -> None:
    """Refuse what cannot work together.

    Raises:
        ValueError: what was found, and what to do.
    """
    spec, loss = recipe.on_policy, recipe.loss
    if spec.sampler == "none":
        return
    if recipe.teacher is None or loss.name == "sft":
        raise ValueError(
            "on_policy needs a teacher's opinion of the student's answers, and loss sft has none: choose a loss that compares with the "
            "teacher, or set on_policy.sampler: none"
        )
    if loss.ce_weight:
        raise ValueError(
            f"loss.ce_weight {loss.ce_weight} would teach the student its own answers as labels: leave it out, or set on_policy.sampler: none"
        )
    if recipe.data.answers != "dataset":
        raise ValueError(
            f"on_policy replaces answers of the data set, and data.answers is {recipe.data.answers!r}: set data.answers: dataset"
        )
    if recipe.teacher.cache.enabled:
        raise ValueError(
            "a cached teacher has no hidden states for answers that are yet to be written: set teacher.cache.enabled: false, or "
            "on_policy.sampler: none"
        )
    if spec.after >= recipe.training.steps:
        raise ValueError(
            f"on_policy.after {spec.after} leaves none of the {recipe.training.steps} steps to the student's own answers: lower it"
        )
    if spec.sampler == "adaptive" and (not recipe.data.validation or recipe.training.validate_every is None):
        raise ValueError(
            "on_policy.sampler: adaptive follows the held-out loss: set data.validation and training.validate_every, or take sampler: mixed"
        )
    if spec.sampler == "adaptive" and spec.capacity == 0:
        raise ValueError(
            "on_policy.sampler: adaptive draws from a replay buffer: set on_policy.replay.capacity above 0"
        )
