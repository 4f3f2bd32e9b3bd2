"""What ``taid-vlm train`` does: train, then measure the student on the tasks that its recipe names."""

from importlib.util import find_spec
from pathlib import Path

from taid_vlm.recipe import Recipe


def train_and_evaluate(recipe: Recipe, run_dir: Path) -> Path:
    """Train the student of ``recipe`` and print how it does on ``evaluation.tasks``.

    Answers and results go to ``<run_dir>/evaluation``. The same call goes on where it was stopped, in training or in
    the evaluation. Without the evaluation package the student is trained and a line says that it was not measured.

    Returns:
        The folder of the saved student.

    Raises:
        UserError: before training, what is wrong with the tasks; see also :func:`taid_vlm.training.train`.
    """
    from accelerate import PartialState

    from taid_vlm.training import train

    wanted = recipe.evaluation
    installed = find_spec("taid_vlm_eval") is not None
    task_files = []
    if wanted.tasks and installed:
        from taid_vlm_eval.runner import check_call

        # A misspelt task should not cost a training run.
        task_files = check_call(wanted.tasks, limit=wanted.limit, batch_size=wanted.batch_size)
    student = train(recipe, run_dir)
    # One process asks; the others are done.
    if not wanted.tasks or not PartialState().is_main_process:
        return student
    if not installed:
        print(f"not evaluated on {', '.join(wanted.tasks)}: the package taid_vlm_eval is not installed")
        return student
    from taid_vlm_eval.cli import run

    run(student, task_files, limit=wanted.limit, batch_size=wanted.batch_size, output=run_dir / "evaluation")
    return student
