"""What ``taid-vlm train`` does: train, and measure the student on the tasks that its recipe names, on the way and at the end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taid_vlm.common.errors import UserError
from taid_vlm.recipe import Recipe

if TYPE_CHECKING:
    from taid_vlm.models.loaded import LoadedStudent
    from taid_vlm.training.evaluating import Score
    from taid_vlm_eval.task import TaskFile


def train_and_evaluate(recipe: Recipe, run_dir: Path, origin: Mapping[str, Any] | None = None) -> Path:
    """Train the student of ``recipe`` and print how it does on ``evaluation.tasks``.

    Answers and results go to ``<run_dir>/evaluation``, those of ``evaluation.every`` to ``step-NNNNNN`` in it and those of the
    average of the weights to ``ema``. The same call goes on where it was stopped, in training or in the evaluation. Without the
    evaluation package the student is trained and a line says that it was not measured.

    Args:
        origin: of the recipe, for people; see :func:`taid_vlm.recipe.origin.origin_of`.

    Returns:
        The folder of the saved student.

    Raises:
        UserError: before training, what is wrong with the tasks; see also :func:`taid_vlm.training.train`.
    """
    from accelerate import PartialState

    from taid_vlm.training import train

    wanted = recipe.evaluation
    installed = find_spec("taid_vlm_eval") is not None
    # A misspelt task should not cost a training run.
    task_files = checked_tasks(wanted.tasks, wanted.limit, wanted.batch_size) if installed else []
    student = train(recipe, run_dir, evaluate=in_training(recipe, run_dir.name), origin=origin)
    if not wanted.tasks:
        return student
    main = PartialState().is_main_process
    if not installed:
        print(
            f"not evaluated on {', '.join(wanted.tasks)}: the package taid_vlm_eval is not installed"
        ) if main else None
        return student
    from taid_vlm_eval import open_model
    from taid_vlm_eval.cli import run
    from taid_vlm_eval.runner import evaluate

    averages = [(run_dir / "student-ema", run_dir / "evaluation" / "ema")] if wanted.ema else []
    for model, output in [(student, run_dir / "evaluation"), *averages]:
        asked: Any = {"limit": wanted.limit, "batch_size": wanted.batch_size}
        if main:
            run(model, task_files, output=output, **asked)
        else:  # the others help, and the first tells
            evaluate(open_model(model), task_files, output_dir=output, finish=False, **asked)
    if main:
        from taid_vlm.example_answers import keep_examples

        keep_examples(run_dir, recipe)
    return student


def checked_tasks(tasks: list[str], limit: int | None, batch_size: int) -> "list[TaskFile]":
    """The tasks, read.

    Raises:
        UserError: an unknown or malformed task, or one that could not be run for want of a scorer or of its data.
    """
    from taid_vlm_eval.runner import cannot_run, check_call

    task_files = check_call(tasks, limit=limit, batch_size=batch_size) if tasks else []
    if reasons := cannot_run(task_files):
        raise UserError("; ".join(reasons.values()))
    return task_files


def in_training(recipe: Recipe, name: str) -> "InTraining | None":
    """What measures the student of a run called ``name`` on the way; None where the recipe wants none, or the package is missing.

    Raises:
        UserError: see :func:`checked_tasks`.
    """
    wanted = recipe.evaluation
    if wanted.every is None or find_spec("taid_vlm_eval") is None:
        return None
    task_files = checked_tasks(wanted.tasks_during, wanted.limit_during, wanted.batch_size)
    return InTraining(task_files, wanted.limit_during, wanted.batch_size, name)


class _AskedError(Exception):
    """The run is to stop."""


@dataclass(frozen=True)
class InTraining:
    """The evaluation of ``taid-vlm eval``, of a student in memory; see :class:`taid_vlm.training.evaluating.Evaluate`."""

    tasks: "list[TaskFile]"
    limit: int | None
    batch_size: int
    name: str

    def __call__(
        self, model: "LoadedStudent", identity: str, folder: Path, asked_to_stop: Callable[[], bool], *, finish: bool
    ) -> "dict[str, Score] | None":
        """Scores by task, in the order of the recipe."""
        from taid_vlm.training.evaluating import Score
        from taid_vlm_eval.models.student import StudentModel
        from taid_vlm_eval.runner import evaluate

        def progress(task: str, done: int, total: int) -> None:
            if asked_to_stop():
                raise _AskedError

        try:
            results = evaluate(
                StudentModel(model, self.name, identity),
                self.tasks,
                output_dir=folder,
                limit=self.limit,
                batch_size=self.batch_size,
                progress=progress,
                finish=finish,
            )
        except _AskedError:
            return None
        return {one.task: Score(one.value, one.low, one.high, one.top) for one in results}
