"""The part of a recipe that says how the loop runs."""

from typing import Literal

from pydantic import Field, model_validator

from taid_vlm.models.specs import Strict


class TrainingSpec(Strict):
    """The loop."""

    steps: int = Field(ge=1, description="optimizer steps")
    batch_size: int = Field(ge=1, description="samples per optimizer step, over all processes and micro-batches")
    micro_batch_size: int | None = Field(
        None, ge=1, description="samples per forward; batch_size per process when left out"
    )
    lr: float = Field(gt=0, description="peak learning rate")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="learning rate after warm-up")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled decay, on matrices only")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's averages")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    optimizer: Literal["adamw", "adamw_8bit", "adafactor"] = Field(
        "adamw", description="adamw_8bit keeps its averages in 8 bits (bitsandbytes), adafactor in a row and a column"
    )
    fused_optimizer: bool | None = Field(
        None, description="AdamW in one kernel; where the device has one when left out"
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay of an average of the trained weights, saved as student-ema; none when left out",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="autocast; auto takes bf16 where a timing says so; fp16 scales the loss"
    )
    gradient_checkpointing: bool = Field(
        False, description="keep a layer's input only and run it again in the backward: less memory, a third more time"
    )
    activation_offload: bool = Field(False, description="keep what the backward needs in the processor's memory (GPU)")
    compile: bool = Field(
        False, description="torch.compile of the language model's layers; needs a C++ compiler or Triton"
    )
    attention: str | None = Field(
        None,
        description="attention of the language models, by transformers' name for it: sdpa, eager, flex_attention, "
        "flash_attention_2, ...; what transformers chooses when left out",
    )
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    keep_last: int = Field(1, ge=1, description="checkpoints kept")
    keep_best: Literal["cross_entropy", "kl_to_teacher", "evaluation"] | None = Field(
        None,
        description="held-out figure of which the lowest is best, or evaluation: the highest figure of its first task (see "
        "evaluation.every); that checkpoint is kept, and its student is the one that is saved",
    )
    timeout_minutes: float = Field(
        30, gt=0, description="how long a process waits for the others before it takes them for lost"
    )
    validate_every: int | None = Field(
        None, ge=1, description="steps between validations; one at the end when left out"
    )
    log_every: int = Field(10, ge=1, description="steps between lines on a plain terminal")
    trackers: list[str] = Field(
        ["tensorboard"], description="accelerate trackers by name: tensorboard, wandb, mlflow, trackio, ..."
    )
    max_skipped: int = Field(10, ge=1, description="stop after so many non-finite steps in a row")

    def samples_per_forward(self, processes: int) -> int:
        """Samples of a micro-batch of one process."""
        return self.micro_batch_size or max(1, self.batch_size // processes)

    def forwards_per_step(self, processes: int) -> int:
        """Micro-batches of one process whose gradients are added up for an optimizer step."""
        return max(1, self.batch_size // (self.samples_per_forward(processes) * processes))

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> "TrainingSpec":
        if self.fused_optimizer and self.optimizer != "adamw":
            raise ValueError(f"fused_optimizer is of optimizer: adamw, not of {self.optimizer}: leave it out")
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self
