"""The program behind the table of recipes/README.md: stand-ins of the released sizes, plans that losses share, rows that are planned."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.export.plan import export_plan
from taid_vlm.losses import LossSpec
from taid_vlm.models.assemble import build_student
from taid_vlm.models.student import count_parameters
from taid_vlm.planning import make_plan
from taid_vlm.planning.models import build_models
from taid_vlm.planning.samples import sample_records
from taid_vlm.recipe import Recipe, list_recipes, load_recipe
from tests.recipes.shrunk import Hub, shrunk
from tests.recipes.test_recipes_page import ROWS
from tests.recipes.test_shipped_recipes import CLASSES

ROOT = Path(__file__).parents[2]
ALL = [name for name in list_recipes() if name.startswith(("paper/", "modern/"))]
# Billions of parameters that the cards of the released models tell, and tokens that a pair shares.
TEACHERS = {
    "paper/ultrachat/phi3-tinyllama/kl": (3.82, 32011),
    "paper/ultrachat/llama2-tinyllama/kl": (6.74, 32000),
    "paper/ultrachat/stablelm-pythia/kl": (2.80, 50277),
    "paper/pretraining/kl": (13.96, 32000),
    "paper/capacity-gap/pythia-410m/taid": (0.405, 50277),
    "paper/capacity-gap/pythia-1b/taid": (1.01, 50277),
    "paper/capacity-gap/pythia-2.8b/taid": (2.78, 50277),
    "paper/capacity-gap/pythia-6.9b/taid": (6.86, 50277),
    "paper/taid-llm/taid": (72.7, 151646),
    "paper/taid-vlm/kl": (8.08, 92553),
    "modern/qwen3": (8.19, 151669),
    "modern/internvl3": (7.94, 151675),
    "modern/qwen2_5vl-qwen3": (8.29, 151665),
    "modern/qwen3vl-qwen3": (8.77, 151669),
    "modern/smolvlm2-smollm2": (2.25, 49280),
}
STUDENTS = {
    "paper/ultrachat/llama2-tinyllama/kl": 1.10,
    "paper/ultrachat/stablelm-pythia/kl": 0.405,
    "paper/capacity-gap/pythia-1b/taid": 0.0704,
    "paper/taid-llm/taid": 1.54,
    "paper/taid-vlm/kl": 2.21,
    "modern/qwen3": 0.596,
    "modern/internvl3": 0.938,
    "modern/smolvlm2-smollm2": 0.362 + 0.093,
}


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program as a module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("recipe_hours")


def stood_in(hours: Any, name: str, folder: Path) -> Recipe:
    made: Recipe = hours.stood_in(hours.plain(load_recipe(name)), folder)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", TEACHERS)
def test_a_pair_has_the_released_sizes_and_shares_the_released_tokens(name: str, hours: Any, tmp_path: Path) -> None:
    recipe = stood_in(hours, name, tmp_path)
    models = build_models(recipe, LossSpec.of(**recipe.loss.objective))
    assert models.teacher is not None
    billions, tokens = TEACHERS[name]
    assert count_parameters(models.teacher.model) / 1e9 == pytest.approx(billions, rel=0.02)
    assert models.vocabulary == tokens
    assert models.processor.end_of_turn_id == models.teacher.processor.end_of_turn_id < tokens or "pretrain" in name
    if name in STUDENTS:
        assert count_parameters(models.student) / 1e9 == pytest.approx(STUDENTS[name], rel=0.03)
    samples = sample_records(recipe, models)
    longest = recipe.data.max_length
    if recipe.student.vision_encoder is None:  # as long as the recipe takes
        assert samples.lengths() == [longest]
    else:  # the pictures, and some words
        assert samples.bad == 0
        assert models.processor.images is not None
        pair, size = samples.pairs[0], hours.SIZE
        tokens = models.processor.tiles_per_image(size) * models.processor.images.per_tile * len(pair.images)
        assert pair.student.ids.count(models.processor.image_token_id or 0) == tokens
        assert tokens + sum(hours.LETTERS) < len(pair.student.ids) <= longest
        assert len(pair.labels) in (hours.LETTERS[1] + 1, hours.LETTERS[1] + 2)  # and the end, and a space before it


@pytest.mark.slow
def test_students_are_exported_as_the_page_says(hours: Any, tmp_path: Path) -> None:
    seen: dict[str, tuple[str, bool]] = {}
    for index, name in enumerate(ALL):
        spec = load_recipe(name).student.model_dump_json()
        if spec not in seen:
            recipe = stood_in(hours, name, tmp_path / str(index))
            plan = export_plan(*build_student(recipe.student, load_weights=False), recipe.student)
            runs = {verdict.runtime: verdict.loads for verdict in plan.runtimes}
            seen[spec] = (plan.target, runs["llama.cpp"])
        told = ROWS[name][-1].split(", ")
        assert seen[spec] == (CLASSES[told[0]], "GGUF" in told), name
    assert len(seen) > 5


def test_a_plan_depends_on_a_loss_only_by_its_teacher(hours: Any, hub: Hub) -> None:
    content = shrunk("paper/ultrachat/phi3-tinyllama/taid", hub).model_dump()
    plans = []
    for loss in (name for name in hours.METHODS if name != "sft"):
        recipe = Recipe.model_validate(content | {"loss": {"name": loss}})
        made = make_plan(recipe, gpus=2, process=0)
        plans.append((made.memory, made.flops, made.scale.chosen.pace, made.scale.chosen.peak))
        assert plans[-1] == plans[0], loss
    assert len(plans) == 10


def test_recipes_that_differ_by_a_loss_are_planned_once(hours: Any) -> None:
    def key(name: str) -> str:
        return json.dumps(hours.plain(load_recipe(f"paper/ultrachat/phi3-tinyllama/{name}")), sort_keys=True)

    assert key("kl") == key("taid") == key("ctkd") == key("distillm")
    assert key("gkd") == key("dkd") != key("kl")  # of another micro-batch
    assert key("sft") != key("kl")


@pytest.mark.slow
def test_a_row_is_planned(hours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hours, "list_recipes", lambda: ["quickstart/taid", "paper/capacity-gap/pythia-410m/skl"])
    (row,) = (line for line in hours.table(planned=True).splitlines() if "`" in line)
    assert row.strip("| ").split(" | ")[1:] == ROWS["paper/capacity-gap/pythia-410m/skl"]
