"""Evaluate a model on tasks: find items, ask, score, write."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm_eval.answering import Progress, answer_items
from taid_vlm_eval.answers import AnswersFile
from taid_vlm_eval.data import fingerprint, load_items, require_limit
from taid_vlm_eval.models.protocol import Model
from taid_vlm_eval.result import Result, earlier_speed, make_result
from taid_vlm_eval.task import Task, TaskFile, load_task


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

    Raises:
        UserError: unknown task, missing or malformed data, no memory for a single item, no space to write.
    """
    task_files = check_call(tasks, limit=limit, batch_size=batch_size, tasks_folders=tasks_folders)
    return [_evaluate_one(model, one, Path(output_dir), limit, seed, batch_size, progress, say) for one in task_files]


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
    task_file: TaskFile,
    output_dir: Path,
    limit: int | None,
    seed: int,
    batch_size: int,
    progress: Progress | None,
    say: Callable[[str], None] | None,
) -> Result:
    task = task_file.task
    items = load_items(task_file, limit=limit, seed=seed)
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
        "data": asdict(task.data),
        "data_fingerprint": data_fingerprint,
        "limit": limit,
        "seed": seed,
    }
