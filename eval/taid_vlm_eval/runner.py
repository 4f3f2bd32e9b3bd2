"""Evaluate a model on tasks: find items, ask, score, write."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from taid_vlm.common.assets import PREFIX
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm_eval.answering import Progress, answer_items
from taid_vlm_eval.answers import AnswersFile
from taid_vlm_eval.data import Item, data_folder, fingerprint, load_items, require_limit
from taid_vlm_eval.data.hub import is_offline
from taid_vlm_eval.models.protocol import Model
from taid_vlm_eval.result import Result, earlier_speed, make_result
from taid_vlm_eval.task import NO_SCORER, Data, Task, TaskFile, load_task


def evaluate(
    model: Model,
    tasks: Sequence[str | Path | TaskFile],
    *,
    output_dir: str | Path,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    progress: Progress | None = None,
    tasks_folders: Sequence[str | Path] = (),
    say: Callable[[str], None] | None = None,
    not_run: dict[str, str] | None = None,
) -> list[Result]:
    """Evaluate ``model`` on each task.

    Answers are appended to ``<output_dir>/<task>.answers.jsonl`` as they come; the same call goes on where a killed one
    stopped and ends with the same figures. When the model, the task, the data, ``limit`` or ``seed`` changed since, the old
    answers move to ``.answers.jsonl.old`` and all are asked again. Each result is written to ``<output_dir>/<task>.result.json``
    as soon as its task is done. Nothing is kept between two calls. One process at a time may write to an ``output_dir``.

    Args:
        model: see :class:`taid_vlm_eval.models.Model`; from :func:`open_model`, or any object of that shape.
        tasks: names, paths of YAML files, or what ``load_task`` returned.
        limit: at most this many items of each task, chosen by ``seed``.
        seed: of the choice of items and of the bootstrap.
        batch_size: items asked at a time; halved when memory runs out.
        progress: called with (task, items done, items in all) before a task and after each batch.
        tasks_folders: more folders to look for task names in.
        say: told one line when old answers are moved away.
        not_run: gets the reason for each task that cannot be run (no scorer, missing or malformed data), by name, and the
            others go on. Left out, the first such task is an error.

    Raises:
        UserError: unknown task, a task that cannot be run, no memory for a single item, no space to write.
    """
    task_files = check_call(tasks, limit=limit, batch_size=batch_size, tasks_folders=tasks_folders)
    results = []
    for one in task_files:
        try:
            require_scorer(one.task)
            items = load_items(one, limit=limit, seed=seed)
        except UserError as error:
            if not_run is None:
                raise
            not_run[one.task.name] = str(error)
            continue
        results.append(_evaluate_one(model, one.task, items, Path(output_dir), limit, seed, batch_size, progress, say))
    return results


def require_scorer(task: Task) -> None:
    """Refuse a task that only a judge could score."""
    if task.scorer == NO_SCORER:
        raise UserError(
            f"task {task.name!r} has no scorer: only a judge, a model that reads the answers, could score it"
        )


def cannot_run(task_files: Sequence[TaskFile]) -> dict[str, str]:
    """Tasks without a scorer or without data, with the reason, by name; found out without reading data or fetching any."""
    reasons = {}
    for one in task_files:
        data = one.task.data
        fetched = data.path.startswith(PREFIX) or (data.source == "hub" and not is_offline())
        try:
            require_scorer(one.task)
            if not fetched:
                data_folder(one)
        except UserError as error:
            reasons[one.task.name] = str(error)
    return reasons


def check_call(
    tasks: Sequence[str | Path | TaskFile],
    *,
    limit: int | None = None,
    batch_size: int = 32,
    tasks_folders: Sequence[str | Path] = (),
) -> list[TaskFile]:
    """Read all tasks and refuse what :func:`evaluate` would, before the first task runs or a model is loaded.

    Raises:
        UserError: no task, one given twice, an unknown or malformed one, a limit or batch size below 1.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, expected 1 or more")
    require_limit(limit)
    task_files = [one if isinstance(one, TaskFile) else load_task(one, tasks_folders) for one in tasks]
    names = [one.task.name for one in task_files]
    if not names or len(set(names)) < len(names):
        raise UserError(f"tasks are {', '.join(names) or 'none'}; expected at least one, and each only once")
    return task_files


def _evaluate_one(
    model: Model,
    task: Task,
    items: Sequence[Item],
    output_dir: Path,
    limit: int | None,
    seed: int,
    batch_size: int,
    progress: Progress | None,
    say: Callable[[str], None] | None,
) -> Result:
    header = make_header(model, task, fingerprint(items), limit, seed)
    with AnswersFile(output_dir / f"{task.name}.answers.jsonl", header) as file:
        if file.set_aside and say is not None:
            say(file.set_aside)
        answered, seconds = answer_items(model, items, task, file, batch_size, progress)
        answers = dict(file.done)
    path = output_dir / f"{task.name}.result.json"
    speed = answered / seconds if answered else earlier_speed(path, header)
    result = make_result(task, items, answers, header=header, answers_per_second=speed)
    write_atomic(path, result.to_json())
    return result


def make_header(model: Model, task: Task, data_fingerprint: str, limit: int | None, seed: int) -> dict[str, Any]:
    """Everything that decides the answers. Scorer, metric and texts are left out: changing them needs no new answers."""
    return {
        "model": model.describe(),
        "task": task.name,
        "prompt": asdict(task.prompt),
        "generation": asdict(task.generation),
        "data": _data_of(task),
        "data_fingerprint": data_fingerprint,
        "limit": limit,
        "seed": seed,
    }


def _data_of(task: Task) -> dict[str, Any]:
    """Keys with their default left out, but for the first three: answers of before a key existed stay good."""
    plain = asdict(Data(task.data.source, task.data.path, task.data.split))
    stated = ("source", "path", "split")
    return {key: value for key, value in asdict(task.data).items() if key in stated or value != plain[key]}
