"""Tasks: one YAML file says where the data is, how to ask, and how to score."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from taid_vlm.common.errors import UserError, did_you_mean

CLUSTERS = ("image", "question", "item")


@dataclass(frozen=True)
class Data:
    """Where the items come from; ``path`` as written, see :func:`taid_vlm_eval.data.data_folder`."""

    source: str
    path: str
    split: str = "test"


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
class Task:
    """One benchmark, as its YAML file tells it; ``tasks/easy_vqa.yaml`` explains every key."""

    name: str
    description: str
    data: Data
    generation: Generation
    scorer: str
    metric: str
    prompt: Prompt = field(default_factory=Prompt)
    cluster: str = "item"
    protocol: str = ""


@dataclass(frozen=True)
class TaskFile:
    """A task and the folder its relative paths start from."""

    task: Task
    folder: Path


def task_folders(extra_folders: Sequence[str | Path] = ()) -> list[Path]:
    """The folder of the shipped tasks, then the user's.

    Raises:
        UserError: one of the user's folders does not exist.
    """
    with as_file(files("taid_vlm_eval") / "tasks") as shipped:
        folders = [shipped]
    for folder in map(Path, extra_folders):
        if not folder.is_dir():
            raise UserError(f"no folder of tasks at {folder}; expected a folder with one YAML file per task")
        folders.append(folder)
    return folders


def _find_tasks(extra_folders: Sequence[str | Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in task_folders(extra_folders):
        for path in sorted(folder.glob("*.yaml")):
            if path.stem in found:
                raise UserError(
                    f"two tasks are called {path.stem!r}: {found[path.stem]} and {path}; results could not be told "
                    f"apart, rename one"
                )
            found[path.stem] = path
    return found


def list_tasks(extra_folders: Sequence[str | Path] = ()) -> list[str]:
    """Names of the shipped tasks and of those in ``extra_folders``, sorted."""
    return sorted(_find_tasks(extra_folders))


def load_task(name_or_path: str | Path, extra_folders: Sequence[str | Path] = ()) -> TaskFile:
    """Read one task by name, or from a ``.yaml`` file anywhere.

    Raises:
        UserError: unknown task, unreadable YAML, unknown or missing keys, values of the wrong kind, unknown scorer or metric.
    """
    if str(name_or_path).endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise UserError(f"no task file at {path}")
    else:
        known = _find_tasks(extra_folders)
        if str(name_or_path) not in known:
            raise UserError(f"unknown task {str(name_or_path)!r}: {did_you_mean(str(name_or_path), known)}")
        path = known[str(name_or_path)]
    task = _build(Task, _read_yaml(path), str(path))
    _check(task, path)
    return TaskFile(task, path.parent)


def _check(task: Task, path: Path) -> None:
    from taid_vlm_eval.data import SOURCES
    from taid_vlm_eval.metrics import METRICS, SCORERS

    if task.name != path.stem:
        raise UserError(f"{path}: name is {task.name!r}, expected {path.stem!r} as the file is called; make them equal")
    if task.cluster not in CLUSTERS:
        raise UserError(f"{path}: unknown cluster {task.cluster!r}: {did_you_mean(task.cluster, CLUSTERS)}")
    if not task.generation.greedy:
        raise UserError(f"{path}: generation.greedy is false; only greedy answers are supported, so that runs repeat")
    if task.generation.max_new_tokens < 1:
        raise UserError(f"{path}: generation.max_new_tokens is {task.generation.max_new_tokens}, expected 1 or more")
    try:
        SCORERS.get(task.scorer)
        METRICS.get(task.metric)
        SOURCES.get(task.data.source)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read_yaml(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), path)
        return yaml.safe_load(text)
    # ValueError: not UTF-8, or a date that is none ("2024-13-45").
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def _refuse_repeated_keys(node: Any, path: Path) -> None:
    """YAML lets the last of two equal keys win in silence."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue  # the loader refuses these
        if key.value in seen:
            raise UserError(f"{path}, line {key.start_mark.line + 1}: key {key.value!r} is given twice; keep one")
        seen.add(key.value)
        _refuse_repeated_keys(value, path)


def _build(kind: type, given: Any, where: str) -> Any:
    """An instance of the dataclass ``kind`` from a mapping, strictly: no unknown key, no missing one, no coercion."""
    if not isinstance(given, dict):
        raise UserError(f"{where}: found {type(given).__name__}, expected keys and values")
    hints = get_type_hints(kind)
    for key in given:
        if key not in hints:
            raise UserError(f"{where}: unknown key {key!r}: {did_you_mean(str(key), hints)}")
    values = {}
    for entry in fields(kind):
        if entry.name not in given:
            if entry.default is MISSING and entry.default_factory is MISSING:
                raise UserError(f"{where}: key {entry.name!r} is missing")
            continue
        value, hint = given[entry.name], hints[entry.name]
        if isinstance(hint, type) and is_dataclass(hint):
            value = _build(hint, value, f"{where}: {entry.name}")
        # A YAML true is an int to Python; it is none here.
        elif not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
            raise UserError(
                f"{where}: {entry.name} is {value!r} ({type(value).__name__}), expected {_KINDS[hint]}"
                + ("; put it in quotes" if hint is str else "")
            )
        values[entry.name] = value
    return kind(**values)


_KINDS = {str: "text", int: "a whole number", bool: "true or false"}
