"""What a task says: where the data is, how to ask, and how to score."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from taid_vlm_eval.style import Style

CLUSTERS = ("image", "question", "item")
NO_SCORER = "none"  # as scorer: only a judge can score the task, so it is not run


@dataclass(frozen=True)
class Data:
    """Where the items come from, and which of the data's columns say what.

    Attributes:
        path: as written, see :func:`taid_vlm_eval.data.data_folder`; for the source ``hub`` a hub id will do.
        config, revision: of a data set on the hub; several configs are read one after the other.
        columns: ``id``, ``question``, ``answer``, ``images``, ``options``, ``hint`` and ``suffix`` (a text behind the options);
            any other key is a fact of the items. Several columns where a key stands for several things.
        options: how options are shown: ``lines`` ("A. text" below the question), or ``inside``, where the question shows them.
        answer: how the truth is written: ``text`` (also a list of texts), ``letter``, ``index`` (of an option, from 0),
            ``list`` (a list written as text), ``yes-no`` (1 is yes), or ``none`` (there is no truth).
        hint: what is put before a hint.
        keep: only rows with these values, by column.
        layout: a rule that YAML cannot say, see :mod:`taid_vlm_eval.data.layouts`.
        url: where the file can be had, for the message when it is missing.
    """

    source: str
    path: str
    split: str = "test"
    config: str | list[str] = ""
    revision: str = ""
    columns: dict[str, str | list[str]] = field(default_factory=dict)
    options: str = "lines"
    answer: str = "text"
    hint: str = ""
    keep: dict[str, str | list[str]] = field(default_factory=dict)
    layout: str = ""
    url: str = ""


@dataclass(frozen=True)
class Prompt:
    """The model reads ``prefix + question + suffix``."""

    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True)
class Generation:
    """How long an answer may get, in tokens of the model. Decoding is always greedy."""

    max_new_tokens: int
    greedy: bool = True


@dataclass(frozen=True)
class Judging:
    """What a judge is asked about the answers, where one is chosen.

    Attributes:
        prompt: a name of :data:`taid_vlm_eval.judges.PROMPTS`; "" takes what suits the scorer, if anything does.
    """

    prompt: str = ""


@dataclass(frozen=True)
class Task:
    """One benchmark, as its YAML file tells it; ``tasks/easy_vqa.yaml`` explains every key.

    ``mode`` is a variant of the scorer, "" its default. The scorer ``none`` says that only a judge could score the answers.
    ``style`` is what a protocol changes; left out, questions are put as ``data`` and ``prompt`` say. ``asks`` is a way of
    asking, see :mod:`taid_vlm_eval.ways`; with ``template`` false, the model reads the question outside its chat template.
    """

    name: str
    description: str
    data: Data
    generation: Generation
    scorer: str
    metric: str
    prompt: Prompt = field(default_factory=Prompt)
    cluster: str = "item"
    protocol: str = ""
    mode: str = ""
    style: Style = field(default_factory=Style)
    judge: Judging = field(default_factory=Judging)
    asks: str = "answer"
    template: bool = True


def stated_prompt(task: Task) -> dict[str, Any]:
    """What header and result say of how questions are put; a style and another way of asking only where there is one."""
    prompt: dict[str, Any] = asdict(task.prompt)
    if task.style != Style():
        prompt["style"] = asdict(task.style)
    if task.asks != "answer":
        prompt["asks"] = task.asks
    return prompt if task.template else {**prompt, "template": False}


@dataclass(frozen=True)
class TaskFile:
    """A task and the folder its relative paths start from."""

    task: Task
    folder: Path
