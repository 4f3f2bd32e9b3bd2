"""Task files: one YAML file each, shipped, in a user's folder, or brought by a package."""

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from taid_vlm.common.errors import UserError, did_you_mean
from taid_vlm.common.plug_ins import TASKS, plug_in, plug_ins
from taid_vlm.common.secrets import secrets_of
from taid_vlm_eval.strict_yaml import build, read_yaml
from taid_vlm_eval.style import require_style
from taid_vlm_eval.task import CLUSTERS, NO_SCORER, Task, TaskFile


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

    if task.name != path.stem:
        raise UserError(f"{path}: name is {task.name!r}, expected {path.stem!r} as the file is called; make them equal")
    try:
        _check_asking(task)
        _check_scoring(task)
        SOURCES.get(task.data.source)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _check_asking(task: Task) -> None:
    from taid_vlm_eval.ways import require_way

    if not task.generation.greedy:
        raise UserError("generation.greedy is false; only greedy answers are supported, so that runs repeat")
    if task.generation.max_new_tokens < 1:
        raise UserError(f"generation.max_new_tokens is {task.generation.max_new_tokens}, expected 1 or more")
    if task.style.protocol or task.style.family:
        raise UserError("style.protocol and style.family are not for task files; --protocol and --family set them")
    require_style(task.style)
    require_way(task)


def _check_scoring(task: Task) -> None:
    from taid_vlm_eval.judges.prompts import PROMPTS
    from taid_vlm_eval.metrics import METRICS, SCORERS
    from taid_vlm_eval.metrics.score import require_mode

    if task.cluster not in CLUSTERS:
        raise UserError(f"unknown cluster {task.cluster!r}: {did_you_mean(task.cluster, CLUSTERS)}")
    if task.scorer != NO_SCORER:
        scorer = SCORERS.get(task.scorer)
        if task.mode:
            require_mode(task.mode, scorer.modes)
    if task.judge.prompt:
        PROMPTS.get(task.judge.prompt)
    if task.scorer != NO_SCORER or task.judge.prompt:
        METRICS.get(task.metric)
