"""The part of a recipe that says what is learnt from."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from taid_vlm.models.specs import Strict


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
