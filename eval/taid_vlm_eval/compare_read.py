"""What ``taid-vlm eval`` left in a folder, read back to be compared, and refused where that would mislead."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm_eval.data import ItemTable, fingerprint, load_items
from taid_vlm_eval.judges import kept_judgements
from taid_vlm_eval.kept_answers import KeptAnswers
from taid_vlm_eval.metrics import Estimate, Scored
from taid_vlm_eval.protocols import DEFAULT, with_data
from taid_vlm_eval.result import Result
from taid_vlm_eval.scoring import score_items
from taid_vlm_eval.task import TaskFile

ANSWERS, RESULT = ".answers.jsonl", ".result.json"
# What must be equal for two figures to be comparable, and what a reader should know when it is not.
MUST_AGREE = ("data_fingerprint", "scorer", "mode", "metric", "cluster")
TOLD = ("prompt", "generation", "protocol")


@dataclass(frozen=True)
class Evaluation:
    """One folder's result of one task: ``state`` is the result as it stands in its file."""

    folder: Path
    state: Mapping[str, Any]

    @property
    def style(self) -> Mapping[str, Any]:
        """How questions were put, beyond prefix and suffix; empty without a protocol."""
        found: Mapping[str, Any] = self.state["prompt"].get("style", {})
        return found

    @property
    def teacher(self) -> Mapping[str, Any] | None:
        """What the teacher that a divergence was measured from says of itself, without the name of its folder."""
        found = json.loads(self.state["model"].get("teacher", "null"))
        return found and ({"identity": found["identity"]} if "identity" in found else found)


def common_tasks(folders: Sequence[Path], wanted: Sequence[str]) -> list[str]:
    """The tasks that all folders have results of; ``wanted`` where it is not empty.

    Raises:
        UserError: a folder without results or without a wanted one, no task in common.
    """
    found = []
    for folder in folders:
        names = {file.name.removesuffix(RESULT) for file in folder.glob(f"*{RESULT}")}
        if not names:
            raise UserError(f"no results in {folder}; expected a folder that taid-vlm eval wrote")
        found.append(names)
    for name in wanted:
        for folder, names in zip(folders, found, strict=True):
            if name not in names:
                raise UserError(f"no result of task {name!r} in {folder}; it has {', '.join(sorted(names))}")
    common = set.intersection(*found)
    if not common:
        lists = "; ".join(f"{folder}: {', '.join(sorted(names))}" for folder, names in zip(folders, found, strict=True))
        raise UserError(f"the evaluations have no task in common: {lists}")
    return list(wanted) or sorted(common)


def read_evaluation(folder: Path, task: str) -> Evaluation:
    """The result of one task.

    Raises:
        UserError: it is broken, or of another version.
    """
    path = folder / f"{task}{RESULT}"
    try:
        state = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON; evaluate the task again: {error}") from error
    needed = [entry.name for entry in fields(Result) if entry.default_factory is MISSING]
    lacking = [name for name in needed if not isinstance(state, dict) or name not in state]
    if lacking:
        raise UserError(
            f"{path} lacks {', '.join(lacking)}; it was made by another version. Run the same evaluation again: "
            f"the answers are kept, only the result is made anew"
        )
    return Evaluation(folder, state)


def require_alike(task: str, one: Evaluation, other: Evaluation) -> None:
    """Refuse two evaluations whose figures do not mean the same.

    Raises:
        UserError: another judge, teacher, scorer, mode, metric, cluster, or other data.
    """
    judges = [{key: each.state["judge"].get(key) for key in ("name", "model", "prompt")} for each in (one, other)]
    if judges[0] != judges[1]:
        raise UserError(
            f"task {task!r}: the judge is {judges[0]['name']!r} in {one.folder} and {judges[1]['name']!r} in {other.folder}; "
            f"figures of unlike judges cannot be compared, evaluate both alike"
        )
    if one.teacher != other.teacher:
        raise UserError(
            f"task {task!r}: {one.folder} and {other.folder} were measured from two different teachers; divergences from unlike "
            f"teachers cannot be compared, evaluate both with one --teacher"
        )
    for key in MUST_AGREE:
        found = [each.state[key] for each in (one, other)]
        if found[0] != found[1]:
            limits = ""
            if key == "data_fingerprint":
                taken = [
                    f"n {each.state['n']}, limit {each.state['limit']}, seed {each.state['seed']}"
                    for each in (one, other)
                ]
                limits = f" ({taken[0]} and {taken[1]})"
            raise UserError(
                f"task {task!r}: {key} is {found[0]!r} in {one.folder} and {found[1]!r} in {other.folder}{limits}; "
                f"figures of unlike evaluations cannot be compared, evaluate both alike"
            )


def items_of(task_file: TaskFile, evaluation: Evaluation) -> tuple[TaskFile, ItemTable]:
    """The task as the result has it, with its items.

    Raises:
        UserError: the data here is not what was evaluated.
    """
    task_file = with_data(task_file, evaluation.style.get("protocol") or DEFAULT)
    stated = {key: evaluation.state[key] for key in ("scorer", "mode", "metric", "cluster")}
    task_file = replace(task_file, task=replace(task_file.task, **stated))
    items = load_items(task_file, limit=evaluation.state["limit"], seed=evaluation.state["seed"])
    if fingerprint(items) != evaluation.state["data_fingerprint"]:
        raise UserError(
            f"task {task_file.task.name!r}: the data here is not that of the evaluation in {evaluation.folder} (SHA-256 "
            f"differs); put the same data in place, or evaluate again"
        )
    return task_file, items


def scored_again(task_file: TaskFile, items: ItemTable, evaluation: Evaluation) -> Sequence[Scored]:
    """The answers of an evaluation, scored; what a judge said is read from its file, and no judge is asked. All texts stay on disk.

    Raises:
        UserError: answers or judgements are missing, or are not those of the result.
    """
    folder, state = evaluation.folder, evaluation.state
    path = folder / f"{task_file.task.name}{ANSWERS}"
    answers = KeptAnswers(path, items.places)
    header = answers.header
    if header is None or any(header.get(key) != state[key] for key in ("model", "data_fingerprint", "prompt")):
        raise UserError(f"{path} holds other answers than those of the result beside it; finish the evaluation")
    if missing := len(items) - len(answers):
        first = next(item.id for item in items if item.id not in answers)
        raise UserError(
            f"{path} lacks the answers to {missing} of {len(items)} items ({first!r} first); finish the evaluation"
        )
    judgements = kept_judgements(task_file.task, folder, state["judge"])
    scored, _ = score_items(task_file.task, items, answers, judgements)
    return scored


def unlike(one: Evaluation, other: Evaluation) -> list[str]:
    """What differs in how the two were asked, as sentences."""
    styles = one.style, other.style
    notes = [
        f"{each.state['errors']} of {each.state['n']} items could not be asked in {each.folder}"
        for each in (one, other)
        if each.state["errors"]
    ]
    protocols = [style.get("protocol") for style in styles]
    if protocols[0] and protocols[0] == protocols[1] and styles[0]["family"] != styles[1]["family"]:
        families = f"{styles[0]['family']!r} and {styles[1]['family']!r}"
        return [*notes, f"asked as the families {families} of the protocol {protocols[0]!r}"]
    for key in TOLD:
        if one.state[key] != other.state[key]:
            notes.append(f"{key} differs: {one.state[key]!r} and {other.state[key]!r}")
    return notes


def moved(evaluation: Evaluation, estimate: Estimate) -> list[str]:
    """Whether the figure is not that of the result, as a sentence."""
    value = evaluation.state["value"]
    if abs(estimate.value - value) <= 1e-9 * estimate.top:
        return []
    return [f"the result in {evaluation.folder} says {value}, scored by another version; here it is {estimate.value}"]
