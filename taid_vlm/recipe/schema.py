"""The schema of a recipe: every key, its type, its default and what it means."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from taid_vlm.common.secrets import secrets_of
from taid_vlm.models.specs import LanguageModelSpec, Strict, StudentSpec
from taid_vlm.recipe.on_policy import OnPolicySpec, check_on_policy
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


class DataSource(Strict):
    """One set of conversations or texts; see docs/data.md for each kind."""

    kind: str = Field(
        description="exact name of a source: jsonl, json, parquet, huggingface, webdataset, csv, mantis, ultrachat, "
        "cauldron, text, easy_vqa, chatterbot"
    )
    path: str = Field(description="folder, file or pattern, hub id of a data set, or asset:NAME/path")
    split: str = Field("train", description="part of the set")
    config: str | None = Field(None, description="configuration of a hub data set, where it has several")
    columns: dict[
        Literal["messages", "images", "question", "answer", "text", "id"], Annotated[str, Field(min_length=1)] | None
    ] = Field(
        {},
        description="what the set calls its columns, for example {messages: conversations}; question: null for none, images: null "
        "to leave pictures behind",
    )
    image_folder: str | None = Field(
        None, description="folder that picture paths start from; that of the data file when left out"
    )
    image_mark: str | None = Field(
        None, min_length=1, description="text that stands where a picture belongs; <image> for json and mantis"
    )
    limit: int | None = Field(
        None, ge=1, description="take so many records, chosen by the recipe's seed (streaming: the first ones)"
    )
    weight: float = Field(1.0, gt=0, description="passes over the source per epoch; a fraction is drawn by the seed")
    streaming: bool = Field(False, description="read a hub data set without downloading it whole; needs a limit")

    @model_validator(mode="after")
    def _fits(self) -> "DataSource":
        if self.streaming and self.limit is None:
            raise ValueError("streaming reads the first records only: set limit to how many")
        kinds = [name for name, column in self.columns.items() if column and name in ("messages", "question", "text")]
        if len(kinds) > 1:
            raise ValueError(f"columns name {' and '.join(kinds)}: a source holds either; leave out the others")
        empty = [name for name, column in self.columns.items() if column is None and name not in ("question", "images")]
        if empty:
            raise ValueError(f"columns.{empty[0]} is null; give the name of a column, or leave it out")
        return self


class DataSpec(Strict):
    """What is learnt from."""

    train: list[DataSource] = Field(min_length=1, description="sources that are joined and shuffled")
    validation: list[DataSource] = Field(
        [], description="held-out sources; loss and KL to the teacher are measured on them"
    )
    answers: Literal["dataset", "teacher"] = Field(
        "dataset",
        description="teacher: it writes the last answer of every training record once, before training; with loss.name sft this "
        "is sequence-level distillation, for which teacher and student may have different tokenizers",
    )
    answer_tokens: int = Field(256, ge=1, description="answers teacher: tokens of an answer; longer ones are left out")
    on_bad_sample: Literal["refuse", "skip"] = Field(
        "refuse", description="a broken picture or a missing answer: stop and name it, or skip and count it"
    )
    max_length: int = Field(
        1024,
        ge=8,
        description="tokens of a sample, pictures included; see too_long for a longer one",
    )
    too_long: Literal["drop", "trim"] = Field(
        "drop",
        description="drop: a bad sample (see on_bad_sample); trim: it loses whole turns at its end until it fits, and is bad "
        "if its first answer does not",
    )
    batching: Literal["padded", "grouped", "packed"] = Field(
        "padded",
        description="padded: the samples of a step as they come, each in a row; grouped: those of like length together; "
        "packed: several in a row, each seeing itself alone. A step has the same samples and gradient in all three",
    )
    pack_length: int | None = Field(
        None, ge=8, description="packed: most tokens of a row, max_length or more; max_length when left out"
    )
    workers: int = Field(0, ge=0, description="processes that prepare batches; 0 is the training process itself")
    prefetch: int = Field(2, ge=1, description="batches that each worker prepares ahead")
    cache_image_features: bool = Field(
        False, description="run a frozen vision encoder once over all pictures and keep the features in memory"
    )

    @model_validator(mode="after")
    def _rows_hold_samples(self) -> "DataSpec":
        if self.answers == "teacher" and self.too_long == "trim":
            raise ValueError("too_long: trim would cut off the answers that the teacher wrote: set too_long: drop")
        if self.pack_length is not None and self.batching != "packed":
            raise ValueError("pack_length is of packed rows: set batching: packed, or leave it out")
        if self.pack_length is not None and self.pack_length < self.max_length:
            raise ValueError(f"pack_length {self.pack_length} is below max_length {self.max_length}")
        return self

    @property
    def row_length(self) -> int:
        """Most tokens of a packed row."""
        return self.pack_length or self.max_length


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

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> "TrainingSpec":
        if self.fused_optimizer and self.optimizer != "adamw":
            raise ValueError(f"fused_optimizer is of optimizer: adamw, not of {self.optimizer}: leave it out")
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self


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
