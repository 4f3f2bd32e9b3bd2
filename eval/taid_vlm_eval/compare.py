"""What two evaluations of the same items differ in: paired figures with intervals, and the items themselves.

Differences are taken draw by draw of one bootstrap: both models are drawn on the same clusters, so what makes an item hard
for both cancels out, and the interval is that of pairs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve
from taid_vlm_eval.answers import read_answers
from taid_vlm_eval.data import Item, fingerprint, load_items
from taid_vlm_eval.judges import kept_judgements
from taid_vlm_eval.metrics import METRICS, Estimate, Scored, wilson_interval
from taid_vlm_eval.metrics.aggregate import TAILS
from taid_vlm_eval.protocols import DEFAULT, with_data
from taid_vlm_eval.result import Result
from taid_vlm_eval.scoring import score_items
from taid_vlm_eval.task import TaskFile, load_task

ANSWERS, RESULT = ".answers.jsonl", ".result.json"
# What must be equal for two figures to be comparable, and what a reader should know when it is not.
MUST_AGREE = ("data_fingerprint", "scorer", "mode", "metric", "cluster")
TOLD = ("prompt", "generation", "protocol")


@dataclass(frozen=True)
class Difference:
    """``first`` minus ``second`` with its 95 % interval, of one figure with values from 0 to ``top``."""

    figure: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    top: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Pair:
    """Two evaluations of one task.

    Attributes:
        differences: the task's figure first, then its named ones (parts, categories).
        items, scored: what the two scored, in one order; ``scored[0]`` is of ``first``.
        notes: what differs in how the two were asked.
    """

    task: str
    metric: str
    first: str
    second: str
    differences: list[Difference]
    items: Sequence[Item]
    scored: tuple[Sequence[Scored], Sequence[Scored]]
    notes: list[str]


def compare(
    folders: Sequence[str | Path], *, tasks: Sequence[str] = (), tasks_folders: Sequence[str | Path] = ()
) -> list[Pair]:
    """Compare the first folder of an evaluation with each of the others, on the tasks that all of them finished.

    Answers are scored again, as the results say, so the data must be at hand.

    Args:
        folders: what ``taid-vlm eval`` wrote, two or more.
        tasks: only these.
        tasks_folders: more folders to look for task files in.

    Raises:
        UserError: fewer than two folders, no task in common, an evaluation that is broken or of other data, scorer or mode.
    """
    paths = [Path(resolve(str(folder))) for folder in folders]
    if len(paths) < 2 or len(set(paths)) < len(paths):
        raise UserError(f"found {len(set(paths))} folders to compare, expected two or more, each once")
    pairs = []
    for name in _common_tasks(paths, tasks):
        states = [_state(path, name) for path in paths]
        for path, state in zip(paths[1:], states[1:], strict=True):
            _require_equal(name, paths[0], states[0], path, state)
        task_file, items = _items(load_task(name, tasks_folders), states[0], paths[0])
        ready = [_scored(task_file, items, path, state) for path, state in zip(paths, states, strict=True)]
        metric, seed = METRICS.get(task_file.task.metric), states[0]["seed"]
        estimates = [metric(scored, seed) for scored in ready]
        for place in range(1, len(paths)):
            pairs.append(
                Pair(
                    task=name,
                    metric=task_file.task.metric,
                    first=str(paths[0]),
                    second=str(paths[place]),
                    differences=differences(task_file.task.metric, estimates[0], estimates[place]),
                    items=items,
                    scored=(ready[0], ready[place]),
                    notes=[
                        *_notes(states[0], states[place]),
                        *_moved(paths[0], states[0], estimates[0]),
                        *_moved(paths[place], states[place], estimates[place]),
                    ],
                )
            )
    return pairs


def differences(metric: str, first: Estimate, second: Estimate) -> list[Difference]:
    """The difference of two estimates of the same items, then those of their named figures.

    Raises:
        ValueError: an estimate keeps no draws.
    """
    named = [(name, first.named[name], second.named[name]) for name in first.named if name in second.named]
    return [_difference(name, one, other) for name, one, other in [(metric, first, second), *named]]


def _difference(name: str, first: Estimate, second: Estimate) -> Difference:
    if first.draws is None or second.draws is None:
        raise ValueError(f"the metric of {name!r} keeps no draws of its bootstrap, so no pairs can be made")
    gap = first.value - second.value
    drawn_R = first.draws - second.draws
    drawn_R = drawn_R[~np.isnan(drawn_R)]
    low, high = np.quantile(drawn_R, TAILS).tolist() if drawn_R.size else (gap, gap)
    if high - low < 1e-9 * first.top:
        # No draw differs from another; as for a single figure, Wilson's interval with the clusters as trials.
        share = min(abs(gap) / first.top, 1.0)
        least, most = wilson_interval(share * first.behind, first.behind)
        if share < 1e-9:
            least = -most
        low, high = sorted(bound * first.top * (-1 if gap < 0 else 1) for bound in (least, most))
    return Difference(name, first.value, second.value, gap, low, high, first.top)


def _common_tasks(paths: Sequence[Path], wanted: Sequence[str]) -> list[str]:
    found = []
    for path in paths:
        names = {file.name.removesuffix(RESULT) for file in path.glob(f"*{RESULT}")}
        if not names:
            raise UserError(f"no results in {path}; expected a folder that taid-vlm eval wrote")
        found.append(names)
    common = set.intersection(*found)
    for name in wanted:
        for path, names in zip(paths, found, strict=True):
            if name not in names:
                raise UserError(f"no result of task {name!r} in {path}; it has {', '.join(sorted(names))}")
    if not common:
        lists = "; ".join(f"{path}: {', '.join(sorted(names))}" for path, names in zip(paths, found, strict=True))
        raise UserError(f"the evaluations have no task in common: {lists}")
    return list(wanted) or sorted(common)


def _state(folder: Path, task: str) -> dict[str, Any]:
    path = folder / f"{task}{RESULT}"
    try:
        state = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON; evaluate the task again: {error}") from error
    lacking = [entry.name for entry in fields(Result) if not isinstance(state, dict) or entry.name not in state]
    if lacking:
        raise UserError(
            f"{path} lacks {', '.join(lacking)}; it was made by another version. Run the same evaluation again: "
            f"the answers are kept, only the result is made anew"
        )
    return state


def _require_equal(task: str, path: Path, state: Mapping[str, Any], other_path: Path, other: Mapping[str, Any]) -> None:
    judges = [{key: one["judge"].get(key) for key in ("name", "model", "prompt")} for one in (state, other)]
    if judges[0] != judges[1]:
        raise UserError(
            f"task {task!r}: the judge is {judges[0]['name']!r} in {path} and {judges[1]['name']!r} in {other_path}; figures of "
            f"unlike judges cannot be compared, evaluate both alike"
        )
    for key in MUST_AGREE:
        if state[key] != other[key]:
            limits = ""
            if key == "data_fingerprint":
                taken = [f"n {one['n']}, limit {one['limit']}, seed {one['seed']}" for one in (state, other)]
                limits = f" ({taken[0]} and {taken[1]})"
            raise UserError(
                f"task {task!r}: {key} is {state[key]!r} in {path} and {other[key]!r} in {other_path}{limits}; "
                f"figures of unlike evaluations cannot be compared, evaluate both alike"
            )


def _items(task_file: TaskFile, state: Mapping[str, Any], folder: Path) -> tuple[TaskFile, Sequence[Item]]:
    """The task as the results have it, with its items."""
    task_file = with_data(task_file, _style(state).get("protocol") or DEFAULT)
    stated = {key: state[key] for key in ("scorer", "mode", "metric", "cluster")}
    task_file = replace(task_file, task=replace(task_file.task, **stated))
    items = load_items(task_file, limit=state["limit"], seed=state["seed"])
    if fingerprint(items) != state["data_fingerprint"]:
        raise UserError(
            f"task {task_file.task.name!r}: the data here is not that of the evaluation in {folder} (SHA-256 differs); "
            f"put the same data in place, or evaluate again"
        )
    return task_file, items


def _scored(task_file: TaskFile, items: Sequence[Item], folder: Path, state: Mapping[str, Any]) -> Sequence[Scored]:
    path = folder / f"{task_file.task.name}{ANSWERS}"
    header, answers, _ = read_answers(path)
    if header is None or any(header.get(key) != state[key] for key in ("model", "data_fingerprint", "prompt")):
        raise UserError(f"{path} holds other answers than those of the result beside it; finish the evaluation")
    missing = [item.id for item in items if item.id not in answers]
    if missing:
        raise UserError(
            f"{path} lacks the answers to {len(missing)} of {len(items)} items ({missing[0]!r} first); finish the evaluation"
        )
    judgements = kept_judgements(task_file.task, folder, state["judge"])
    scored, _ = score_items(task_file.task, items, answers, judgements)
    return scored


def _notes(state: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    one, two = _style(state), _style(other)
    if one.get("protocol") and one["protocol"] == two.get("protocol") and one["family"] != two["family"]:
        return [f"asked as the families {one['family']!r} and {two['family']!r} of the protocol {one['protocol']!r}"]
    return [f"{key} differs: {state[key]!r} and {other[key]!r}" for key in TOLD if state[key] != other[key]]


def _style(state: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state["prompt"].get("style", {})
    return found


def _moved(folder: Path, state: Mapping[str, Any], estimate: Estimate) -> list[str]:
    if abs(estimate.value - state["value"]) <= 1e-9 * estimate.top:
        return []
    return [f"the result in {folder} says {state['value']}, scored by another version; here it is {estimate.value}"]
