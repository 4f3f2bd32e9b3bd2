"""A few questions of a run's evaluation with everybody's answer: the student before and after training, and the teacher.

``<run>/examples/examples.json`` names the pictures, which lie beside it; the report shows both.
"""

import gc
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic, write_drawn
from taid_vlm.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from taid_vlm_eval.data import Item
    from taid_vlm_eval.task import TaskFile

COUNT = 6  # items of each task
SIDE = 320  # pixels of a kept picture's longer side


def keep_examples(run_dir: Path, recipe: Recipe, count: int = COUNT, others: bool = False) -> Path:
    """Write down the first ``count`` items of each task, in the order that limits follow, with the answers there are.

    Args:
        others: ask the student as it was before training and the teacher, too, which loads both; their earlier answers hold
            while they are the same models.

    Returns:
        The file.

    Raises:
        UserError: a task that cannot be read.
    """
    from taid_vlm.run import checked_tasks
    from taid_vlm_eval.answers import read_answers

    wanted, folder = recipe.evaluation, run_dir / "examples"
    count = min(count, wanted.limit or count)
    tasks = checked_tasks(wanted.tasks, count, wanted.batch_size)
    notes = _ask_others(recipe, tasks, count, folder) if others else {}
    sources = {"before": folder / "before", "after": run_dir / "evaluation", "teacher": folder / "teacher"}
    rows: list[dict[str, Any]] = []
    for one in tasks:
        files = {who: read_answers(place / f"{one.task.name}.answers.jsonl")[1] for who, place in sources.items()}
        rows += _rows(one, files, count, folder, first=len(rows))
    file = folder / "examples.json"
    write_atomic(file, json.dumps({"notes": notes, "items": rows}, indent=2) + "\n")
    return file


def ask_examples(run_dir: Path, count: int) -> None:
    """The same for a run of which only the folder is at hand, all three asked.

    Raises:
        UserError: no recipe there, or one that names no tasks.
    """
    file = run_dir / "recipe.yaml"
    if not file.is_file():
        raise UserError(f"{run_dir} holds no recipe.yaml; expected the folder of a run")
    recipe = load_recipe(file)
    if not recipe.evaluation.tasks:
        raise UserError(f"the recipe of {run_dir} names no tasks (evaluation.tasks), so there is nothing to ask")
    keep_examples(run_dir, recipe, count, others=True)


def _rows(
    one: "TaskFile", files: Mapping[str, Mapping[str, Any]], count: int, folder: Path, first: int
) -> list[dict[str, Any]]:
    from taid_vlm_eval.data import load_items

    rows = []
    for number, item in enumerate(load_items(one, limit=count), start=first):
        answers = {who: _told(one, item, found[item.id]) for who, found in files.items() if item.id in found}
        truths = [item.answer] if isinstance(item.answer, str) else list(dict.fromkeys(item.answer))
        row = {"task": one.task.name, "id": item.id, "question": item.question, "truths": truths[:5]}
        rows.append({**row, "pictures": _pictures(item, folder, number), "answers": answers})
    return rows


def _told(one: "TaskFile", item: "Item", answer: Any) -> dict[str, Any]:
    """An answer with its score, None where only a judge could give one."""
    from taid_vlm_eval.scoring import score_items
    from taid_vlm_eval.task import NO_SCORER

    scored = None if one.task.scorer == NO_SCORER else score_items(one.task, [item], {item.id: answer})[0][0].value
    return {"text": answer["answer"], "error": answer["error"], "score": scored}


def _pictures(item: "Item", folder: Path, number: int) -> list[str]:
    from taid_vlm_eval.data.item import open_images
    from taid_vlm_eval.data.pictures import BrokenImageError

    try:
        images = open_images(item)[:4]
    except BrokenImageError:
        return []
    names = [f"{number}-{place}.png" for place in range(len(images))]
    for name, image in zip(names, images, strict=True):
        image.thumbnail((SIDE, SIDE))
        write_drawn(folder / name, partial(image.save, format="PNG"))
    return names


def _ask_others(recipe: Recipe, tasks: "Sequence[TaskFile]", count: int, folder: Path) -> dict[str, str]:
    """Have both answer; returns why somebody did not."""
    import torch

    from taid_vlm.models.assemble import build_student
    from taid_vlm.models.loaded import LoadedStudent
    from taid_vlm_eval import open_model
    from taid_vlm_eval.models.student import StudentModel
    from taid_vlm_eval.runner import evaluate

    asked: Any = {"limit": count, "batch_size": recipe.evaluation.batch_size}
    student, processor = build_student(recipe.student, recipe.seed)  # the same bits as at the run's first step
    student.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    loaded = LoadedStudent(student, processor, recipe.student, "before training", "before training")
    identity = f"untrained, seed {recipe.seed}"
    evaluate(StudentModel(loaded, "before training", identity), tasks, output_dir=folder / "before", **asked)
    del student, loaded
    gc.collect()
    teacher = recipe.teacher
    if teacher is None:
        return {"teacher": "the run has none"}
    if teacher.checkpoint is None or teacher.placement in ("served", "sharded"):
        return {"teacher": "it is no checkpoint that the evaluation opens by itself"}
    try:
        evaluate(open_model(teacher.checkpoint), tasks, output_dir=folder / "teacher", **asked)
    except UserError as error:
        return {"teacher": str(error)}
    return {}
