"""Shipped recipes in small: the same keys, with stand-ins for what is on the hub and steps, lengths and pictures that take no time."""

from pathlib import Path
from typing import Any

import yaml

import taid_vlm_eval
from taid_vlm.models.native.parts import split_into_parts
from taid_vlm.recipe import Recipe, load_recipe
from tests.tiny.benchmark_files import write_benchmark
from tests.tiny.recipe_data import write_mantis_instruct, write_smollm_corpus, write_the_cauldron, write_ultrachat
from tests.tiny.released import save_released

# The student's parts in the cache folder, as the recipes say before their keys.
CONVERTED = {"InternVL2-2B": "OpenGVLab/InternVL2-2B", "InternVL3-1B": "OpenGVLab/InternVL3-1B-hf"}
TASKS = Path(taid_vlm_eval.__file__).parent / "tasks"
SOURCES = 2  # of a recipe's data
SIDE, EDGE, TILES = 32, 64, 2


class Hub:
    """The models and data sets of the recipes, each made when it is first asked for."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root, self.cache = root, cache

    def model(self, hub_id: str) -> Path:
        """Folder of a model's stand-in."""
        folder = self.root / "models" / hub_id.replace("/", "--")
        return folder if folder.is_dir() else save_released(hub_id, folder)

    def data(self, hub_id: str, config: str | None) -> Path:
        """Folder of a data set, or of its configuration."""
        folder = self.root / "data" / hub_id.replace("/", "--")
        if not (folder / (config or "")).is_dir():
            self._write(hub_id, folder, config or "")
        return folder / (config or "")

    def _write(self, hub_id: str, folder: Path, config: str) -> None:
        if hub_id == "HuggingFaceH4/ultrachat_200k":
            write_ultrachat(folder)
        elif hub_id == "HuggingFaceTB/smollm-corpus":
            write_smollm_corpus(folder)
        elif hub_id == "TIGER-Lab/Mantis-Instruct":
            write_mantis_instruct(folder, self.cache / "mantis", [config])
        else:
            assert hub_id == "HuggingFaceM4/the_cauldron", hub_id
            write_the_cauldron(folder, [config])

    def converted(self, place: str) -> None:
        """What ``taid-vlm convert student`` writes, for a path such as ``cache:students/NAME/language_model``."""
        name = place.removeprefix("cache:students/").split("/")[0]
        folder = self.cache / "students" / name
        if not folder.is_dir():
            folder.parent.mkdir(exist_ok=True)
            split_into_parts(str(self.model(CONVERTED[name])), folder)

    def task(self, name: str) -> str:
        """The task with short answers; its data are where they are looked for before the hub is."""
        write_benchmark(name, self.cache / "data")
        task = yaml.safe_load((TASKS / f"{name}.yaml").read_text())
        if "max_new_tokens" in task.get("generation", {}):
            task["generation"]["max_new_tokens"] = min(4, task["generation"]["max_new_tokens"])
        file = self.root / "tasks" / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(task, allow_unicode=True))
        return str(file)


def shrunk(name: str, hub: Hub, **training: Any) -> Recipe:
    """A shipped recipe over stand-ins: two steps of two samples, its own loss, sampler, parts, templates and precision."""
    content = load_recipe(name).model_dump(mode="json")
    _student(content["student"], hub)
    if content["teacher"] is not None:
        _teacher(content["teacher"], hub)
    for part in ("train", "validation"):
        content["data"][part] = [_source(source, hub) for source in content["data"][part][:SOURCES]]
    content["data"] |= {"max_length": 1024, "workers": 0}
    content["on_policy"] |= {"max_new_tokens": 6}
    usual = {
        "steps": 2,
        "batch_size": 2,
        "micro_batch_size": 1,
        "checkpoint_every": 1,
        "trackers": [],
        "warmup_steps": 0,
    }
    content["training"] |= usual | training
    if content["training"]["validate_every"] is not None:
        content["training"]["validate_every"] = 1
    tasks = [hub.task(task) for task in content["evaluation"]["tasks"]]
    content["evaluation"] |= {"limit": 2, "tasks": tasks}
    if content["evaluation"]["every"] is not None:
        content["evaluation"]["every"] = 1
    return Recipe.model_validate(content)


def _student(student: dict[str, Any], hub: Hub) -> None:
    language_model, encoder, projector = (student[part] for part in ("language_model", "vision_encoder", "projector"))
    if language_model["source"].startswith("cache:"):
        hub.converted(language_model["source"])
    else:
        language_model["source"] = str(hub.model(language_model["source"]))
    if encoder is None:
        return
    encoder["image_size"] = SIDE
    if not encoder["name"].startswith("cache:"):
        encoder["name"] = str(hub.model(encoder["name"]))
    assert projector is not None
    images = student["images"]
    images |= {"longest_edge": EDGE} if images["longest_edge"] is not None else {}
    images |= {"max_tiles": TILES} if images["tiling"] == "dynamic" else {}


def _teacher(teacher: dict[str, Any], hub: Hub) -> None:
    if teacher["checkpoint"] is not None:
        teacher["checkpoint"] = str(hub.model(teacher["checkpoint"]))
    else:
        teacher["language_model"]["source"] = str(hub.model(teacher["language_model"]["source"]))


def _source(source: dict[str, Any], hub: Hub) -> dict[str, Any]:
    """The same source in a folder: a folder has no configurations, its configuration is a folder."""
    path = hub.data(source["path"], source["config"])
    return source | {"path": str(path), "config": None, "limit": None if source["limit"] is None else 4}
