"""The part of a recipe that says what is minimised, and how TAID's t rises."""

from typing import Any, Literal

from pydantic import Field, model_validator

from taid_vlm.models.specs import Strict


class TemperatureSpec(Strict):
    """The temperature of ctkd, 1 + 20 sigmoid(theta), which is trained against the student."""

    lr: float | None = Field(None, gt=0, description="learning rate of theta; training.lr when left out")
    start: float = Field(1.0, description="theta before training; 1 is a temperature of about 15.6")
    ramp_steps: int | None = Field(
        None, ge=0, description="steps until its gradient is wholly reversed; a 24th of the run when left out"
    )


class LossConfig(Strict):
    """The objective; see docs/losses.md for each method's source, options and defaults."""

    name: str = Field(
        "taid",
        description="exact name of a loss: sft, taid, kl, rkl, tvd, jsd, adaptive_kl, sfkl, srkl, ctkd, dkd, ab, "
        "amid, todi, distillm2",
    )
    divergence: str = Field(
        "", description="for taid: what is measured between student and target, kl when left out, or rkl, tvd, ..."
    )
    options: dict[str, float | str] = Field(
        {}, description="options of the divergence by their names, for example {beta: 0.5} of jsd"
    )
    semantics: Literal["paper", "reference"] = Field(
        "paper", description="paper: as each method's own paper says; reference: as the TAID authors' code computes"
    )
    kd_weight: float | None = Field(None, ge=0, description="weight of the distillation loss; 1 but for sft")
    ce_weight: float | None = Field(
        None, ge=0, description="weight of the cross-entropy on the labels; 0 but for sft, where it is 1"
    )
    temperature: TemperatureSpec = Field(TemperatureSpec(), description="of ctkd")
    schedule: Literal["adaptive", "linear", "exponential", "constant", "set_point"] = Field(
        "adaptive",
        description="how t of TAID rises; set_point is an experiment that the controlled study did not support",
    )
    set_point: float | None = Field(
        None,
        gt=0,
        description="schedule set_point: t rises and falls so that KL(p_t || student) stays at so many nats per token",
    )
    t_start: float = Field(0.4, ge=0, le=1, description="t at the first step")
    t_end: float = Field(1.0, gt=0, le=1, description="t at the last step")
    alpha: float | None = Field(
        None, ge=0, le=1, description="rate of t per update; 5e-4 (the paper's) when neither alpha is given"
    )
    alpha_total: float | None = Field(None, ge=0, description="rate per run: alpha = alpha_total / steps")
    beta: float = Field(0.99, ge=0, lt=1, description="momentum of the relative change of the loss")
    signal: Literal["kl", "cross_entropy"] | None = Field(
        None,
        description="what drives t: kl(p_t || student), or the cross_entropy of the TAID authors' code; by semantics "
        "when left out",
    )
    mass_rows: int = Field(
        4, ge=0, description="rows of a batch at which the student's head and tail mass is taken; 0 for none"
    )
    chunk_mb: int | None = Field(
        None,
        ge=1,
        description="memory for logits in MiB, in chunks of rows that fit; when left out 1024, on a CPU no more than 512 rows take",
    )

    @model_validator(mode="after")
    def _one_alpha(self) -> "LossConfig":
        if self.alpha is not None and self.alpha_total is not None:
            raise ValueError("give alpha or alpha_total, not both")
        return self

    @model_validator(mode="after")
    def _follows_a_set_point(self) -> "LossConfig":
        if (self.schedule == "set_point") != (self.set_point is not None):
            raise ValueError(
                "schedule: set_point and a set_point in nats go together: give both, such as set_point: 0.5, or neither"
            )
        if self.set_point is not None and self.clock_signal != "kl_target":
            raise ValueError(
                "schedule: set_point follows KL(p_t || student): set signal: kl, for a cross-entropy does not fall to 0 with t"
            )
        return self

    @property
    def objective(self) -> dict[str, Any]:
        """Keyword arguments of ``LossSpec.of``."""
        named = self.model_dump(include={"name", "kd_weight", "ce_weight", "divergence", "semantics"})
        return named | self.options

    @property
    def clock(self) -> dict[str, Any]:
        """Keyword arguments of ``TAIDClock``, but for the number of steps."""
        return self.model_dump(include={"schedule", "t_start", "t_end", "alpha", "alpha_total", "beta", "set_point"})

    @property
    def clock_signal(self) -> str:
        """The name of the figure that drives t."""
        usual = "cross_entropy" if self.semantics == "reference" else "kl"
        return "ce_target" if (self.signal or usual) == "cross_entropy" else "kl_target"
