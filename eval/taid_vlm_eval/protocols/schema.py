"""What a protocol says."""

from dataclasses import dataclass, field
from typing import Any

from taid_vlm_eval.style import Wording

# Of tasks: letters, letters with several pictures, yes or no, short answers, and those whose data say all.
KINDS = ("mcq", "mmmu", "yes-no", "vqa", "own")


@dataclass(frozen=True)
class ProtocolTask:
    """One task under a protocol, for all families.

    Attributes:
        kind: of :data:`KINDS`; a family has a wording for each.
        dataset: its name in the harness that is followed; md5: of its file there.
        scorer, mode, metric: in place of the task's, where not empty.
        data: keys in place of the task's; with ``source``, all of its keys are replaced.
        note: stated in the result.
    """

    kind: str
    dataset: str
    md5: str = ""
    scorer: str = ""
    mode: str = ""
    metric: str = ""
    note: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FamilyTask:
    """What is particular to a task within a family: a wording in place of its kind's, and keys of the style."""

    wording: str = ""
    style: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """How the models of one family are asked.

    Attributes:
        kinds: a wording for each kind of task.
        style: of all tasks, keys of :class:`taid_vlm_eval.style.Style`.
        differs: where this cannot follow the other harness.
    """

    description: str
    max_new_tokens: int
    kinds: dict[str, str]
    style: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, FamilyTask] = field(default_factory=dict)
    differs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Protocol:
    """A protocol; ``averages`` are figures of several tasks, by name."""

    name: str
    description: str
    judge: str
    wordings: dict[str, Wording]
    tasks: dict[str, ProtocolTask]
    families: dict[str, Family]
    averages: dict[str, list[str]]
