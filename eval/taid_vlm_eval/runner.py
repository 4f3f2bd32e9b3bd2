"""Evaluate a model on tasks: find items, ask, score, write."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from taid_vlm.common.assets import PREFIX
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm_eval.answering import WORKERS, Progress, Running, Standing, Watch, answer_items
from taid_vlm_eval.answers_file import AnswersFile
from taid_vlm_eval.cannot_ask import CannotAskError
from taid_vlm_eval.data import ItemTable, data_folder, fingerprint, load_items, require_limit
from taid_vlm_eval.data.hub import why_no_hub
from taid_vlm_eval.judges import Judge, NothingReadError, judged
from taid_vlm_eval.model_answers import write_model_answers
from taid_vlm_eval.models.protocol import Model
from taid_vlm_eval.models.ways import asked
from taid_vlm_eval.protocols import DEFAULT, choose_family, under, with_data
from taid_vlm_eval.result import Result, earlier_speed, make_result
from taid_vlm_eval.task import NO_SCORER, Data, Task, TaskFile, stated_prompt
from taid_vlm_eval.task_files import load_task
from taid_vlm_eval.ways import require_letters, with_letters


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
    protocol: str = DEFAULT,
    family: str | None = None,
    workers: int = WORKERS,
    watch: Watch | None = None,
    finish: bool = True,
    letters: str = "generated",
    teacher: Model | None = None,
    judge: Judge | None = None,
) -> list[Result]:
    """Evaluate ``model`` on each task.

    Answers are appended to ``<output_dir>/<task>.answers.jsonl`` as they come; the same call goes on where a killed one
    stopped and ends with the same figures. When the model, the task, the data, ``limit`` or ``seed`` changed since, the old
    answers move to ``.answers.jsonl.old`` and all are asked again. Each result is written to ``<output_dir>/<task>.result.json``
    as soon as its task is done. Nothing is kept between two calls.

    Any number of processes may make the same call with the same ``output_dir`` at the same time, each with its own copy of the model,
    on one machine or on several that share the folder. They share the work, need not know of each other, and each returns all results.

    Args:
        model: see :class:`taid_vlm_eval.models.Model`; from :func:`open_model`, or any object of that shape.
        tasks: names, paths of YAML files, or what ``load_task`` returned.
        limit: at most this many items of each task, chosen by ``seed``.
        seed: of the choice of items and of the bootstrap.
        batch_size: items asked at a time; halved when memory runs out.
        progress: called with (task, items done, items in all) before a task and after each batch.
        tasks_folders: more folders to look for task names in.
        say: told one line when old answers are moved away.
        not_run: gets the reason for each task that cannot be run (no scorer, missing or malformed data, pictures for a model
            that sees none, no memory for a single item), by name, and the others go on. Left out, the first such task is an error.
        protocol: a name of :data:`taid_vlm_eval.protocols.PROTOCOLS`, which fixes prompts, tiles and how answers are read.
        family: of the model, under a protocol other than ``default``; found out from its class when left out.
        workers: threads that open pictures and prepare batches ahead; with 0 that is done when a batch is asked.
        watch: told the :class:`Standing` of a task before its first batch, after each, and while other processes are waited for.
        letters: with ``likelihood``, tasks whose answers are letters of options get the likeliest one, see :mod:`taid_vlm_eval.ways`.
        teacher: of tasks that measure a divergence from one.
        finish: False answers what no other process has taken, and leaves waiting, scores and results to those who finish.
        judge: from :func:`taid_vlm_eval.judges.open_judge`; asked where no rule scores the answers, or none could read one.

    Raises:
        UserError: unknown task, protocol or family, a task that cannot be run, no memory for a single item, no space to write,
            another process at work in ``output_dir`` with other settings.
    """
    task_files = check_call(tasks, limit=limit, batch_size=batch_size, workers=workers, tasks_folders=tasks_folders)
    require_letters(letters, [one.task for one in task_files])
    asked_as = choose_family(model, protocol, family)
    running = Running(batch_size, workers, finish, _watching(progress, watch))
    results = []
    for one in task_files:
        try:
            one = under(one, protocol, asked_as)
            one = replace(one, task=with_letters(one.task, letters))
            require_scorer(one.task, judge is not None)
            asking = asked(model, one.task.asks, teacher)
            items = load_items(one, limit=limit, seed=seed)
        except UserError as error:
            if not_run is None:
                raise
            not_run[one.task.name] = str(error)
            continue
        try:
            result = _evaluate_one(asking, one.task, items, Path(output_dir), limit, seed, running, say, judge)
        except (CannotAskError, NothingReadError) as error:
            if not_run is None:
                raise
            not_run[one.task.name] = str(error)
            continue
        if result is not None:
            results.append(result)
    return results


def answers_only(task: Task) -> bool:
    """Whether the answers are wanted though nothing here scores them: those of several turns, for FastChat's judge."""
    return task.scorer == NO_SCORER and task.asks == "turns"


def require_scorer(task: Task, has_judge: bool = False) -> None:
    """Refuse a task that only a judge could score, when there is none, unless its answers are wanted all the same."""
    if task.scorer != NO_SCORER or answers_only(task) or (has_judge and task.judge.prompt):
        return
    if has_judge:
        raise UserError(f"task {task.name!r} has no scorer, and its file names no judge.prompt")
    raise UserError(
        f"task {task.name!r} has no scorer: only a judge, a model that reads the answers, could score it; name one with "
        f"--judge openai:MODEL@URL or --judge local:PATH"
    )


def cannot_run(task_files: Sequence[TaskFile], protocol: str = DEFAULT, has_judge: bool = False) -> dict[str, str]:
    """Tasks without a scorer or without data, or that a protocol does not define, with the reason, by name.

    Found out without reading data or fetching any.
    """
    reasons = {}
    for one in task_files:
        try:
            one = with_data(one, protocol)
            data = one.task.data
            fetched = data.path.startswith(PREFIX) or (data.source == "hub" and not why_no_hub())
            require_scorer(one.task, has_judge)
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
    workers: int = WORKERS,
    tasks_folders: Sequence[str | Path] = (),
) -> list[TaskFile]:
    """Read all tasks and refuse what :func:`evaluate` would, before the first task runs or a model is loaded.

    Raises:
        UserError: no task, one given twice, an unknown or malformed one, a limit or batch size below 1, workers below 0.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, expected 1 or more")
    if workers < 0:
        raise UserError(f"workers is {workers}, expected 0 or more")
    require_limit(limit)
    task_files = [one if isinstance(one, TaskFile) else load_task(one, tasks_folders) for one in tasks]
    names = [one.task.name for one in task_files]
    if not names or len(set(names)) < len(names):
        raise UserError(f"tasks are {', '.join(names) or 'none'}; expected at least one, and each only once")
    return task_files


def _evaluate_one(
    model: Model,
    task: Task,
    items: ItemTable,
    output_dir: Path,
    limit: int | None,
    seed: int,
    running: Running,
    say: Callable[[str], None] | None,
    judge: Judge | None,
) -> Result | None:
    header = make_header(model, task, fingerprint(items), limit, seed)
    with AnswersFile(output_dir / f"{task.name}.answers.jsonl", header, items.places) as answers:
        if answers.set_aside and say is not None:
            say(answers.set_aside)
        if not answers.shared:
            _without_locks(output_dir, running, say)
        try:
            answered, seconds = answer_items(model, items, task, answers, running)
        except CannotAskError:
            answers.remove_if_empty()
            raise
        if not running.finish:
            return None
        if answers_only(task) and (judge is None or not task.judge.prompt):
            path = write_model_answers(output_dir / task.name, items, answers)
            if say is not None:
                say(f"{task.name}: answers only, its score needs a judge; FastChat's reads {path}")
            return None
        path = output_dir / f"{task.name}.result.json"
        speed = answered / seconds if answered else earlier_speed(path, header)
        with judged(judge, task, items, answers, output_dir, running, say) as said:
            result = make_result(task, items, answers, header=header, answers_per_second=speed, judgements=said)
        write_atomic(path, result.to_json())
    return result


def _without_locks(folder: Path, running: Running, say: Callable[[str], None] | None) -> None:
    found = f"the file system of {folder} has no locks, so processes cannot share work there"
    if not running.finish:
        raise UserError(f"{found}; evaluate with one process, or choose another output")
    if say is not None:
        say(f"{found}; see that no other one evaluates into it")


def _watching(progress: Progress | None, watch: Watch | None) -> Watch:
    def tell(standing: Standing) -> None:
        if progress is not None:
            progress(standing.task, standing.done, standing.total)
        if watch is not None:
            watch(standing)

    return tell


def make_header(model: Model, task: Task, data_fingerprint: str, limit: int | None, seed: int) -> dict[str, Any]:
    """Everything that decides the answers. Scorer, metric and texts are left out: changing them needs no new answers."""
    return {
        "model": model.describe(),
        "task": task.name,
        "prompt": stated_prompt(task),
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
