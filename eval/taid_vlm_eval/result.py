"""What an evaluation states: a figure with everything needed to judge and repeat it."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from taid_vlm_eval.answers import Answer
from taid_vlm_eval.arrays import Floats
from taid_vlm_eval.data import Item
from taid_vlm_eval.judges.judgements import Judgements
from taid_vlm_eval.marks import mark_of
from taid_vlm_eval.metrics import METRICS, SCORERS, Estimate, Scored
from taid_vlm_eval.scoring import majority_score, parse_rate, score_items
from taid_vlm_eval.task import NO_SCORER, Task, stated_prompt

NAMED_ERRORS = 5


@dataclass(frozen=True)
class Draws:
    """What is needed to put a figure beside another of the same clusters; it is in no file.

    Attributes:
        figure_R: the figure in each draw of the bootstrap; None where that is not known.
        clusters: a digest of what was drawn, item by item; equal ones mean that two figures were drawn alike.
    """

    figure_R: Floats | None = None
    clusters: str = ""


@dataclass(frozen=True)
class Result:
    """One task, one model.

    Attributes:
        task: name of the task.
        metric: name of the metric; ``value`` and the 95 % interval ``low`` to ``high`` are in its unit, from 0 to ``top``.
        named: further figures of the metric (its parts, categories): {name: {"value", "low", "high", "top"}}.
        n: items scored, those with errors among them (as wrong).
        errors: how many items could not be asked; ``first_errors`` names some: {"id", "error"}.
        answers_per_second: over the items answered in the last call that answered any; None when that is not known.
        majority: the figure of always giving the most frequent truth of these items; None unless answers repeat.
        parse_rate: the share of answers in which the scorer found something; the others are wrong.
        parse_notes: how answers were read, counted.
        limit, seed: which items were taken (all of them when limit is None).
        data_fingerprint: SHA-256 over the items taken, image bytes included.
        model: what the model says of itself.
        prompt: of the task; with ``style`` where there is one, which names protocol and family.
        generation, protocol, scorer, mode, cluster: as the task has them; the mode "" is the scorer's default.
        judge: its ``name``, "rule" where no model was to be asked; else what it says of itself (``model``), the ``prompt``, how many
            answers it was ``asked`` about, how many of these had no reply (``errors``), and the share that it could read (``parse_rate``).
        versions: of this toolkit, torch, transformers and Python.
        data: where the items are from, as the task has it: ``source``, ``path``, ``split``, and what else it names, such as ``config`` and
            ``revision``; empty in files of versions that did not state it.
        draws: of ``value``, for figures made of several results; only in the process that scored.
    """

    task: str
    metric: str
    value: float
    low: float
    high: float
    top: float
    named: dict[str, dict[str, float]]
    n: int
    errors: int
    first_errors: list[dict[str, str]]
    answers_per_second: float | None
    majority: float | None
    parse_rate: float
    parse_notes: dict[str, int]
    limit: int | None
    seed: int
    data_fingerprint: str
    model: dict[str, str | int]
    scorer: str
    mode: str
    cluster: str
    prompt: dict[str, Any]
    generation: dict[str, Any]
    protocol: str
    judge: dict[str, Any]
    versions: dict[str, str]
    data: dict[str, Any] = field(default_factory=dict)
    draws: Draws = field(default_factory=Draws, compare=False, repr=False)

    def stated(self) -> dict[str, Any]:
        """All that goes into a file."""
        content = asdict(replace(self, draws=Draws()))
        del content["draws"]
        return content

    def to_json(self) -> str:
        """Indented JSON with a line end."""
        return json.dumps(self.stated(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def versions() -> dict[str, str]:
    """Installed versions, without importing anything heavy."""
    found = {"python": platform.python_version()}
    for package in ("taid-vlm", "torch", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def make_result(
    task: Task,
    items: Sequence[Item],
    answers: Mapping[str, Answer],
    *,
    header: Mapping[str, Any],
    answers_per_second: float | None,
    judgements: Judgements | None = None,
) -> Result:
    """Score the answers, one per item, in the order of the items.

    Args:
        header: of the answers file; its model, data, fingerprint, limit and seed are stated.
        judgements: of the answers, where a judge was chosen that has something to say about them.
    """
    scorer, metric = None if task.scorer == NO_SCORER else SCORERS.get(task.scorer), METRICS.get(task.metric)
    scored, readings = score_items(task, items, answers, judgements)
    estimate = metric(scored, header["seed"])
    errors, first_errors = _errors(items, answers)
    return Result(
        task=task.name,
        metric=task.metric,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        top=estimate.top,
        named={name: _plain(one) for name, one in estimate.named.items()},
        n=len(items),
        errors=errors,
        first_errors=first_errors,
        answers_per_second=answers_per_second,
        majority=majority_score(items, scorer, task.mode or None, metric) if scorer and scorer.closed else None,
        parse_rate=parse_rate(task, readings),
        parse_notes=readings,
        limit=header["limit"],
        seed=header["seed"],
        data_fingerprint=header["data_fingerprint"],
        model=dict(header["model"]),
        scorer=task.scorer,
        mode=task.mode,
        cluster=task.cluster,
        prompt=stated_prompt(task),
        generation=asdict(task.generation),
        protocol=task.protocol,
        judge=judgements.summary(readings) if judgements is not None else {"name": "rule"},
        versions=versions(),
        data=dict(header["data"]),
        draws=Draws(estimate.draws, _digest_of_clusters(scored)),
    )


def _digest_of_clusters(scored: Sequence[Scored]) -> str:
    """Of the cluster and, where there is one, the group of each item, in their order: these decide what is drawn."""
    total = hashlib.sha256()
    for one in scored:
        total.update(mark_of(f"{one.cluster}\0{one.facts.get('group', '')}"))
    return total.hexdigest()


def _errors(items: Sequence[Item], answers: Mapping[str, Answer]) -> tuple[int, list[dict[str, str]]]:
    count, first = 0, list[dict[str, str]]()
    for item in items:
        if (message := answers[item.id]["error"]) is not None:
            count += 1
            if len(first) < NAMED_ERRORS:
                first.append({"id": item.id, "error": message})
    return count, first


def _plain(estimate: Estimate) -> dict[str, float]:
    return {key: float(getattr(estimate, key)) for key in ("value", "low", "high", "top")}


def earlier_speed(path: Path, header: Mapping[str, Any]) -> float | None:
    """The ``answers_per_second`` of the result at ``path``, for a call that had nothing to ask since all answers were there.

    None when there is no sound result, when it does not know either, or when it was made of other answers than those of ``header``
    (where the data is from does not count, the fingerprint says which data it was).
    """
    try:
        found = json.loads(path.read_bytes())
        wanted = json.loads(json.dumps(header))  # tuples and lists compare equal
        same = all(found[key] == wanted[key] for key in wanted.keys() - {"data"})
        speed = found["answers_per_second"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return speed if same and isinstance(speed, float) else None
