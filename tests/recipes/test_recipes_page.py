"""recipes/README.md lists every shipped recipe, and its cells are what the files say."""

import re
from typing import Any

import pytest

from taid_vlm.recipe import list_recipes, load_recipe, recipes_folder
from tests.tiny.released import released_models

BASES = {"quickstart/student"}  # named in the text under the table
ALL = [name for name in list_recipes() if name.startswith(("paper/", "modern/"))]
PAGE = (recipes_folder() / "README.md").read_text()
TABLE = PAGE.split("<!-- experiments -->")[1].split("<!-- end -->")[0]
ROWS = {
    cells[0].strip("`"): cells[1:]
    for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines() if line)
}
# Words of the loss column by the loss of a recipe.
WORDS = {
    "sft": "SFT",
    "kl": "forward KL",
    "rkl": "reverse KL",
    "tvd": "TVD",
    "jsd": "JSD",
    "adaptive_kl": "adaptive KL",
}
WORDS |= {"sfkl": "skew KL", "srkl": "skew reverse KL", "ctkd": "CTKD", "dkd": "DKD", "taid": "TAID"}


def test_every_recipe_is_listed_once() -> None:
    listed = [line.split("|")[1].strip() for line in TABLE.splitlines() if line.startswith("| `")]
    assert listed == [f"`{name}`" for name in ALL]
    for name in list_recipes():
        if name not in BASES and not name.startswith("study/"):
            assert f"`{name}`" in PAGE, name


@pytest.mark.parametrize("name", ALL)
def test_its_cells_are_those_of_the_file(name: str) -> None:
    teacher, student, data, loss, gpus, hours, _ = ROWS[name]
    recipe = load_recipe(name)
    if recipe.teacher is None:
        assert teacher == "none"
    else:
        source = recipe.teacher.checkpoint or getattr(recipe.teacher.language_model, "source", "")
        assert source.endswith("/" + teacher)
    parts = [recipe.student.language_model.source]
    if recipe.student.vision_encoder is not None:
        parts.insert(0, recipe.student.vision_encoder.name)
    assert all(any(word in part for part in parts) for word in student.split(" + "))
    assert student.count(" + ") == len({part.split("/")[1] for part in parts}) - 1
    assert data == recipe.data.train[0].path.split("/")[1]
    assert {source.path for source in recipe.data.train} == {recipe.data.train[0].path}
    assert loss.split(",")[0] == WORDS[recipe.loss.name]
    assert ("own answers" in loss) == (recipe.on_policy.sampler != "none")
    assert ("linear t" in loss) == (recipe.loss.schedule == "linear")
    assert re.fullmatch(r"[1248](, (zero2|fsdp2))?", gpus)
    assert (hours == "-") == (recipe.on_policy.sampler != "none")
    assert hours == "-" or float(hours) > 0


@pytest.mark.parametrize("name", ALL)
def test_whatever_a_recipe_names_on_the_hub_has_a_stand_in_that_is_exercised(name: str) -> None:
    named: list[Any] = [load_recipe(name).student.language_model.source]
    recipe = load_recipe(name)
    if recipe.teacher is not None:
        named.append(recipe.teacher.checkpoint or getattr(recipe.teacher.language_model, "source", None))
    named += [recipe.student.vision_encoder.name] if recipe.student.vision_encoder is not None else []
    for one in named:
        assert one.startswith("cache:students/") or one in released_models(), one


def test_the_page_on_the_paper_names_recipes_that_are_there() -> None:
    text = (recipes_folder().parent / "docs" / "paper.md").read_text()
    found = set(re.findall(r"taid-vlm (?:recipes show|launch) (\S+)", text))
    assert found
    assert found <= set(ALL)
