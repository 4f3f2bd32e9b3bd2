"""The teacher that comes with the recipes: whole, made by the recipe beside it, and as good as its card says."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from taid_vlm.common.files import sha256_of
from taid_vlm.recipe import load_recipe, recipes_folder
from taid_vlm_eval import open_model
from taid_vlm_eval.runner import evaluate

pytestmark = pytest.mark.assets
QUESTIONS = 200


@pytest.fixture(scope="module")
def folder() -> Path:
    return recipes_folder() / "quickstart" / "teacher"


@pytest.fixture(scope="module")
def card(folder: Path) -> str:
    return (folder / "README.md").read_text()


def test_it_is_small_and_its_hash_is_on_the_card(folder: Path, card: str) -> None:
    weights = folder / "model.safetensors"
    assert weights.stat().st_size <= 16e6
    assert f"sha256 of model.safetensors: {sha256_of(weights)}" in card


def test_it_was_made_by_the_recipe_beside_it(card: str) -> None:
    made_by = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    recipe = load_recipe("quickstart/teacher").model_dump(mode="json")
    # Cross-entropy on the labels reads none of the other keys of the loss, so their defaults may change.
    assert made_by.pop("loss")["name"] == recipe.pop("loss")["name"] == "sft"
    compare(made_by, recipe, "recipe")


def compare(old: Any, new: Any, where: str) -> None:
    # Keys that later versions add are allowed; a value that was used must not change.
    if isinstance(old, dict):
        for key, value in old.items():
            compare(value, new[key], f"{where}.{key}")
    elif isinstance(old, list):
        assert len(old) == len(new), where
        for place, value in enumerate(old):
            compare(value, new[place], f"{where}.{place}")
    else:
        assert old == new, where


@pytest.mark.slow
def test_it_answers_as_its_card_says(folder: Path, card: str, tmp_path: Path) -> None:
    found = re.search(r"accuracy (0\.\d+) \(95 % interval (0\.\d+) to", card)
    assert found is not None
    claimed = float(found[1])
    assert claimed >= 0.95
    result = evaluate(open_model(folder), ["easy_vqa"], output_dir=tmp_path, limit=QUESTIONS, batch_size=50)[0]
    # Three standard errors of a sample of this size.
    assert result.value > claimed - 3 * (claimed * (1 - claimed) / QUESTIONS) ** 0.5
