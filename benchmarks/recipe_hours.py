"""The table of recipes/README.md: what each shipped experiment names, the GPUs that hold it and its hours by ``taid-vlm plan``.

    python benchmarks/recipe_hours.py                              print the table
    python benchmarks/recipe_hours.py --hours --page recipes/README.md     plan, and put it between the markers of the page

Nothing is measured, and no weights are needed. What is planned is the shipped recipe with stand-ins (recipe_models.py) for its models, and for
its data records of one length each, :data:`LETTERS` and :data:`PICTURES`. Recipes that differ in no more than the loss, the tasks or the
description are planned once, for a plan's memory and arithmetic depend on a loss only by whether it needs a teacher. What a student
writes in training is not planned: such a recipe has "-" for its hours.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from recipe_models import encoder_folder, language_model_folder, teacher_folder

from taid_vlm.common.files import write_atomic
from taid_vlm.planning import Cluster, Plan, make_plan
from taid_vlm.planning.cards import card_named, fits
from taid_vlm.recipe import Recipe, list_recipes, load_recipe

CARD, MOST = "H100 80 GB", 8
STRATEGIES = ("ddp", "zero2", "fsdp2")  # the first that fits is taken
FOLDERS = ("paper/", "modern/")
LETTERS = (64, 128)  # of a question about pictures and of its answer, a token each
SIZE = (1024, 768)  # of a picture
PICTURES = {"cauldron": 1, "mantis": 2}  # of a record, by the kind of data
METHODS = {
    "sft": "SFT",
    "kl": "forward KL",
    "rkl": "reverse KL",
    "tvd": "TVD",
    "jsd": "JSD",
    "adaptive_kl": "adaptive KL",
    "sfkl": "skew KL",
    "srkl": "skew reverse KL",
    "ctkd": "CTKD",
    "dkd": "DKD",
    "taid": "TAID",
}
EXPORTS = {
    "language_model": "own class, GGUF",
    "smolvlm": "SmolVLM, GGUF",
    "lfm2_vl": "Lfm2Vl, GGUF",
    "internvl": "InternVL",
}


def main() -> None:
    """Print the table, or fill the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", action="store_true", help="plan GPUs and hours too: some minutes for all")
    parser.add_argument("--page", type=Path, help="page whose marked table is replaced")
    arguments = parser.parse_args()
    page, block = arguments.page, table(arguments.hours)
    print(block)
    if page is not None:
        place = re.compile(r"<!-- experiments -->\n.*?<!-- end -->", re.DOTALL)
        write_atomic(page, place.sub(lambda _: f"<!-- experiments -->\n\n{block}\n\n<!-- end -->", page.read_text()))


def table(planned: bool) -> str:
    """Markdown, a row for each recipe of :data:`FOLDERS`."""
    lines = [
        "| recipe | teacher | student | data | loss | GPUs | hours | export |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in list_recipes():
        if name.startswith(FOLDERS):
            recipe = load_recipe(name)
            cells = [f"`{name}`", teacher(recipe), student(recipe), data(recipe), loss(recipe)]
            cells += gpus_and_hours(recipe) if planned else ("-", "-")
            lines.append("| " + " | ".join([*cells, EXPORTS[export(recipe)]]) + " |")
    return "\n".join(lines)


def teacher(recipe: Recipe) -> str:
    """Its name on the hub, without the owner."""
    if recipe.teacher is None:
        return "none"
    model = recipe.teacher.language_model
    return _short(model.source if model is not None else recipe.teacher.checkpoint or "")


def student(recipe: Recipe) -> str:
    """Its parts."""
    spec = recipe.student
    if spec.language_model.source.startswith("cache:students/"):
        return spec.language_model.source.split("/")[1]
    eyes = [_short(spec.vision_encoder.name)] if spec.vision_encoder is not None else []
    return " + ".join([*eyes, _short(spec.language_model.source)])


def data(recipe: Recipe) -> str:
    """Names of the data sets."""
    return ", ".join(dict.fromkeys(_short(source.path) for source in recipe.data.train))


def loss(recipe: Recipe) -> str:
    """The method, and who writes the answers."""
    linear = ", linear t" if recipe.loss.schedule == "linear" else ""
    written = f", {recipe.on_policy.sampler} own answers" if recipe.on_policy.sampler != "none" else ""
    return METHODS[recipe.loss.name] + linear + written


def export(recipe: Recipe) -> str:
    """The class that holds the student; a test exports one of each experiment as it."""
    kinds = {
        None: "language_model",
        "pixel_shuffle_linear": "smolvlm",
        "pixel_shuffle_mlp": "lfm2_vl",
        "ln_pixel_shuffle_mlp": "internvl",
    }
    return kinds[recipe.student.projector.name if recipe.student.projector is not None else None]


def gpus_and_hours(recipe: Recipe) -> tuple[str, str]:
    """Fewest GPUs that hold the run, and the hours of the run on :data:`MOST` of them, or "-" where answers are written in it."""
    gpus, hours = _planned(json.dumps(plain(recipe), sort_keys=True))
    return gpus, "-" if recipe.on_policy.sampler != "none" else hours


def plain(recipe: Recipe) -> dict[str, Any]:
    """What a plan depends on."""
    content = recipe.model_dump(mode="json", exclude={"description", "evaluation", "on_policy"})
    content["loss"] = {"name": "kl" if recipe.teacher is not None else "sft"}
    content["data"]["validation"] = []
    for key in ("validate_every", "checkpoint_every", "keep_best"):
        del content["training"][key]
    return content


@cache
def _planned(text: str) -> tuple[str, str]:
    began, asked = time.process_time(), Recipe.model_validate_json(text)
    with tempfile.TemporaryDirectory() as temporary:
        recipe = stood_in(json.loads(text), Path(temporary))
        sharded = recipe.teacher is not None and recipe.teacher.placement == "sharded"
        counts = [count for count in (1, 2, 4, MOST) if not (sharded and count == 1)]
        found = ("-", "-")
        for strategy in STRATEGIES:
            on_all = _plan(recipe, MOST, strategy)
            if not _fits(on_all):
                continue
            fewest = next((n for n in counts[:-1] if _fits(_plan(recipe, n, strategy))), MOST)
            found = (
                str(fewest) if strategy == "ddp" else f"{fewest}, {strategy}",
                f"{on_all.scale.chosen.pace.hours:.1f}",
            )
            break
    told = f"{student(asked)} of {teacher(asked)}: {found[0]} GPUs, {found[1]} hours"
    print(f"{told}; planned in {time.process_time() - began:.0f} s of the processor", file=sys.stderr, flush=True)
    return found


def _plan(recipe: Recipe, gpus: int, strategy: str) -> Plan:
    return make_plan(recipe, gpus=gpus, process=0, cluster=Cluster(card=CARD, strategy=strategy))


def _fits(plan: Plan) -> bool:
    return fits(plan.scale.chosen.peak, card_named(CARD).gib)


def stood_in(content: dict[str, Any], folder: Path) -> Recipe:
    """The recipe over folders without weights."""
    model, encoder = content["student"]["language_model"], content["student"]["vision_encoder"]
    model["source"] = str(language_model_folder(folder / "student", model["source"]))
    if encoder is not None:
        encoder["name"] = str(encoder_folder(folder / "encoder", encoder["name"]))
        content["student"]["projector"]["weights"] = "random"
    if content["teacher"] is not None:
        _teacher(content["teacher"], folder / "teacher")
    kind = content["data"]["train"][0]["kind"]
    content["data"]["train"] = [_records(folder / "data", kind, content["data"]["max_length"])]
    return Recipe.model_validate(content)


def _teacher(asked: dict[str, Any], folder: Path) -> None:
    if asked["checkpoint"] is None:
        asked["language_model"]["source"] = str(language_model_folder(folder, asked["language_model"]["source"]))
        return
    if "InternVL2-" in asked["checkpoint"]:  # its own template says so
        asked["chat_template"] = "internlm2"
    asked["checkpoint"] = str(teacher_folder(folder, asked["checkpoint"]))


def _records(folder: Path, kind: str, longest: int) -> dict[str, Any]:
    """A source of one record; conversations are left to the plan, which takes them as long as a recipe allows, a quarter answers."""
    folder.mkdir()
    if kind == "ultrachat":
        return {"kind": kind, "path": str(folder / "not-there")}
    file = folder / "train.jsonl"
    if kind == "text":
        file.write_text(json.dumps({"id": "0", "text": "a" * (longest - 1)}) + "\n")  # and the token that ends it
        return {"kind": kind, "path": str(file)}
    Image.new("RGB", SIZE).save(folder / "picture.png")
    asked: list[dict[str, Any]] = [{"type": "image"}] * PICTURES[kind]
    asked.append({"type": "text", "text": "a" * LETTERS[0]})
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": "a" * LETTERS[1]}]
    record = {"id": "0", "messages": messages, "images": ["picture.png"] * PICTURES[kind]}
    file.write_text(json.dumps(record) + "\n")
    return {"kind": "jsonl", "path": str(folder)}


def _short(name: str) -> str:
    return name.split("/")[-1]


if __name__ == "__main__":
    main()
