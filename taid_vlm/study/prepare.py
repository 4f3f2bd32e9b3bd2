"""What the runs start from, made once and kept in the cache: data, the teacher of the charts, the student's start for text."""

import json
import shutil
from pathlib import Path
from typing import Any

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.files import new_folder
from taid_vlm.recipe import Recipe, load_recipe
from taid_vlm.study.charts import chart_folder
from taid_vlm.study.talk import talk_folder

START = "study/text/start"
START_FOLDER = "talk-start-1"


def prepare_data(pair: str) -> None:
    """Draw the charts, or write the exchanges, unless they are there."""
    chart_folder() if pair == "a" else talk_folder()


def prepare_start() -> Path:
    """The student that text settings start from: the cut layers, fine-tuned on the labels; a folder that transformers opens."""
    folder = cache_folder() / "study" / START_FOLDER
    if not folder.is_dir():
        student = trained(load_recipe(START), cache_folder() / "study" / "runs" / START_FOLDER)
        _write_language_model(student, folder)
        shutil.rmtree(student.parent)
    return folder


def trained(recipe: Recipe, run_dir: Path) -> Path:
    """Train, or go on where it was stopped; returns the folder of the student."""
    from taid_vlm.training import train

    return train(recipe, run_dir)


def _write_language_model(student: Path, folder: Path) -> None:
    from taid_vlm.models.saved import load_student

    loaded = load_student(student)
    language_model: Any = loaded.student.language_model
    with new_folder(folder) as temporary:
        language_model.save_pretrained(temporary)
        loaded.processor.tokenizer.save_pretrained(temporary)
        (temporary / "start.json").write_text(json.dumps({"weights_sha256": loaded.sha256}) + "\n")


def made_of(recipe: Recipe, teacher: str) -> dict[str, str]:
    """Hashes of what a run is made of beside its recipe.

    Args:
        teacher: its fingerprint.
    """
    found = {"teacher": teacher[:16]}
    if recipe.student.language_model.source == f"cache:study/{START_FOLDER}":
        start = json.loads((cache_folder() / "study" / START_FOLDER / "start.json").read_text())
        found["start"] = start["weights_sha256"][:16]
    return found
