"""What runs start from, made once and kept in the cache: data, the students' starts, smaller teachers."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from taid_vlm.common.assets import cache_folder
from taid_vlm.common.errors import UserError
from taid_vlm.common.file_lock import alone
from taid_vlm.common.files import new_folder
from taid_vlm.common.paths import resolve
from taid_vlm.recipe import Recipe, load_recipe
from taid_vlm.study.charts import chart_folder
from taid_vlm.study.definitions import words_folder

PREFIX = "cache:study/"
PROJECTOR = "projector.safetensors"
LAYERS = (1, 2, 4, 8)  # of the charts' students


def prepare(recipe: Recipe) -> None:
    """Make what the recipe names as ``cache:study/NAME``, unless it is there; one process makes it and others wait.

    Raises:
        UserError: nothing of that name can be made.
    """
    for name in dict.fromkeys(named_in(recipe.model_dump(mode="json"))):
        if name not in MAKERS:
            raise UserError(f"{PREFIX}{name} cannot be made, only {', '.join(MAKERS)}")
        lock = cache_folder() / "study" / f".{name}.lock"
        with alone(lock):
            MAKERS[name]()


def named_in(content: Any) -> Iterator[str]:
    """Every NAME of a text ``cache:study/NAME`` or ``cache:study/NAME/FILE``."""
    if isinstance(content, str) and content.startswith(PREFIX):
        yield content.removeprefix(PREFIX).split("/")[0]
    elif isinstance(content, dict):
        for value in content.values():
            yield from named_in(value)
    elif isinstance(content, list):
        for value in content:
            yield from named_in(value)


def make_start(name: str, recipe: str, overrides: Sequence[str] = ()) -> None:
    """What students start from: cut layers, fine-tuned on the labels.

    A folder that transformers opens; beside it the projector's parameters, where there is one.
    """
    folder = cache_folder() / "study" / name
    if not folder.is_dir():
        student = _trained(load_recipe(recipe, overrides), name)
        _write_parts(student, folder)
        shutil.rmtree(student.parent)


def make_chart_start(layers: int) -> None:
    """The start of the charts' students of so many layers."""
    make_start(f"charts-start-{layers}", "study/charts/start", [f"student.language_model.layers={layers}"])


def make_teacher(layers: int) -> None:
    """A teacher of the charts with fewer layers, trained as the shipped one was."""
    folder = cache_folder() / "study" / f"charts-teacher-{layers}"
    if not folder.is_dir():
        student = _trained(
            load_recipe("study/charts/teacher", [f"student.language_model.layers={layers}"]), folder.name
        )
        with new_folder(folder) as temporary:
            shutil.copytree(student, temporary, dirs_exist_ok=True)
        shutil.rmtree(student.parent)


def _trained(recipe: Recipe, name: str) -> Path:
    """Train, or go on where it was stopped; returns the folder of the student."""
    from taid_vlm.training import train

    prepare(recipe)
    return train(recipe, cache_folder() / "study" / "runs" / name)


def _write_parts(student: Path, folder: Path) -> None:
    from safetensors.torch import save_file

    from taid_vlm.models.saved import load_student

    loaded = load_student(student)
    language_model: Any = loaded.student.language_model
    with new_folder(folder) as temporary:
        language_model.save_pretrained(temporary)
        loaded.processor.tokenizer.save_pretrained(temporary)
        if loaded.student.projector is not None:
            save_file(loaded.student.projector.state_dict(), temporary / PROJECTOR)
        (temporary / "start.json").write_text(json.dumps({"weights_sha256": loaded.sha256}) + "\n")


def _make_own(temperature: float) -> None:
    from taid_vlm.study.own import own_folder

    own_folder(temperature)


MAKERS: dict[str, Callable[[], object]] = {
    "charts-1": chart_folder,
    "words-1": words_folder,
    "words-start-1": lambda: make_start("words-start-1", "study/text/start"),
    **{f"charts-start-{layers}": partial(make_chart_start, layers) for layers in LAYERS},
    "words-own-t0-1": lambda: _make_own(0.0),
    "words-own-t1-1": lambda: _make_own(1.0),
    "charts-teacher-4": lambda: make_teacher(4),
    "charts-teacher-10": lambda: make_teacher(10),
}


def made_of(recipe: Recipe, teacher: str) -> dict[str, str]:
    """Hashes of what a run is made of beside its recipe.

    Args:
        teacher: its fingerprint.
    """
    found = {"teacher": teacher[:16]}
    source = recipe.student.language_model.source
    if source.startswith(PREFIX):
        start = json.loads((Path(resolve(source)) / "start.json").read_text())
        found["start"] = start["weights_sha256"][:16]
    return found
