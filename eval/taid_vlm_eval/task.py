"""Tasks: one YAML file says where the data is, how to ask, and how to score."""

from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.plug_ins import TASKS, plug_in, plug_ins
from taid_vlm.common.secrets import secrets_of
from taid_vlm_eval.style import Style, require_style

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
    """Names of the shipped tasks, of those in ``extra_folders`` and of those that packages bring, sorted."""
    return sorted({*_find_tasks(extra_folders), *(one.name for one in plug_ins(TASKS))})


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
        path = _named(str(name_or_path), _find_tasks(extra_folders))
    content = read_yaml(path)
    for key, secret in secrets_of(content):  # results and answers state what a task says
        raise UserError(
            f"{path}: {key} holds {secret}, and results state it: leave it out; docs/security.md has the way for each"
        )
    task = build(Task, content, str(path))
    _check(task, path)
    return TaskFile(task, path.parent)


def _named(name: str, known: dict[str, Path]) -> Path:
    """The file of a task that is called so, here or in a package."""
    outside = plug_in(TASKS, name, built_in=name in known)
    if outside is not None:
        path = Path(str(files(outside.load()))) / f"{name}.yaml"
        if not path.is_file():
            raise UserError(f"{outside.what} should be in {path}, and is not there")
        return path
    if name not in known:
        names = {*known, *(one.name for one in plug_ins(TASKS))}
        raise UserError(f"unknown task {name!r}: {did_you_mean(name, names)}")
    return known[name]


def _check(task: Task, path: Path) -> None:
    from taid_vlm_eval.data import SOURCES
    from taid_vlm_eval.judges.prompts import PROMPTS
    from taid_vlm_eval.metrics import METRICS, SCORERS
    from taid_vlm_eval.metrics.score import require_mode
    from taid_vlm_eval.ways import require_way

    if task.name != path.stem:
        raise UserError(f"{path}: name is {task.name!r}, expected {path.stem!r} as the file is called; make them equal")
    if task.cluster not in CLUSTERS:
        raise UserError(f"{path}: unknown cluster {task.cluster!r}: {did_you_mean(task.cluster, CLUSTERS)}")
    if not task.generation.greedy:
        raise UserError(f"{path}: generation.greedy is false; only greedy answers are supported, so that runs repeat")
    if task.generation.max_new_tokens < 1:
        raise UserError(f"{path}: generation.max_new_tokens is {task.generation.max_new_tokens}, expected 1 or more")
    try:
        if task.scorer != NO_SCORER:
            scorer = SCORERS.get(task.scorer)
            if task.mode:
                require_mode(task.mode, scorer.modes)
        if task.judge.prompt:
            PROMPTS.get(task.judge.prompt)
        if task.scorer != NO_SCORER or task.judge.prompt:
            METRICS.get(task.metric)
        SOURCES.get(task.data.source)
        if task.style.protocol or task.style.family:
            raise UserError("style.protocol and style.family are not for task files; --protocol and --family set them")
        require_style(task.style)
        require_way(task)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_yaml(path: Path) -> Any:
    """What a YAML file says.

    Raises:
        UserError: unreadable, or a key given twice.
    """
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


def build(kind: type, given: Any, where: str) -> Any:
    """An instance of the dataclass ``kind`` from a mapping, strictly: no unknown key, no missing one, no coercion.

    Raises:
        UserError: it begins with ``where`` and names the key.
    """
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
            value = build(hint, value, f"{where}: {entry.name}")
        elif not _fits(value, hint):
            raise UserError(
                f"{where}: {entry.name} is {value!r} ({type(value).__name__}), expected {_kind(hint)}"
                + ("; put it in quotes" if hint is str else "")
            )
        values[entry.name] = value
    return kind(**values)


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if origin is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if origin is not None:  # a choice of kinds
        return any(_fits(value, one) for one in inner)
    # A YAML true is an int to Python; it is none here.
    return hint is Any or (isinstance(value, hint) and (hint is bool or not isinstance(value, bool)))


_KINDS = {str: "text", int: "a whole number", bool: "true or false", type(None): "nothing", Any: "anything"}


def _kind(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is dict:
        return f"keys and values, each {_kind(inner[1])}"
    if origin is list:
        return f"a list, each entry {_kind(inner[0])}"
    return _KINDS[hint] if origin is None else " or ".join(map(_kind, inner))
