"""Recipes: merging, overrides, and one clear message for each mistake."""

from pathlib import Path

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.recipe import dump_recipe, list_recipes, load_recipe, recipes_folder

MINIMAL = """
student:
  language_model: {source: some/model}
data:
  train: [{kind: jsonl, path: x.jsonl}]
loss: {name: sft}
training:
  steps: 10
  batch_size: 2
  lr: 1.0e-3
"""


def write(folder: Path, text: str, name: str = "r.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_every_shipped_recipe_loads_and_survives_a_round_trip(tmp_path: Path) -> None:
    names = list_recipes()
    assert "quickstart/taid" in names
    for name in names:
        if name == "quickstart/student":  # a base of others: it names no loss
            continue
        recipe = load_recipe(name)
        assert load_recipe(write(tmp_path, dump_recipe(recipe))) == recipe


def test_overrides_win_over_the_file_and_the_file_over_its_base(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL, "base.yaml")
    file = write(tmp_path, "base: base.yaml\ntraining:\n  steps: 20\n")
    assert load_recipe(file).training.steps == 20
    assert load_recipe(file).training.batch_size == 2
    assert load_recipe(file, ["training.steps=30", "seed=4"]).training.steps == 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("  steps: 10", "  step: 10"), r"r\.yaml:8: unknown key 'training\.step'; did you mean 'steps'"),
        (
            ("steps: 10", "optimizer: adamv"),
            r"r\.yaml:8: training\.optimizer: .*'adafactor' \(found 'adamv'; did you mean 'adamw'\?\)",
        ),
        (("steps: 10", "optimizer: qqqq"), r"r\.yaml:8: training\.optimizer: .*'adafactor' \(found 'qqqq'\)"),
        (("steps: 10", "steps: many"), r"r\.yaml:8: training\.steps: .*integer.*found 'many'"),
        (("  lr: 1.0e-3", ""), r"the key 'training\.lr' is missing"),
        (("name: sft", "name: kl"), r"loss 'kl' needs a teacher"),
        (("batch_size: 2", "batch_size: 2\n  batch_size: 3"), "given twice"),
        (("steps: 10", "steps: [10"), "not valid YAML"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    file = write(tmp_path, MINIMAL.replace(*change))
    with pytest.raises(UserError, match=message):
        load_recipe(file)


def test_an_unknown_recipe_lists_close_names() -> None:
    with pytest.raises(UserError, match="quickstart/taid"):
        load_recipe("quickstart/tiad")


def test_a_circle_of_bases_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "base: b.yaml\n", "a.yaml")
    write(tmp_path, "base: a.yaml\n", "b.yaml")
    with pytest.raises(UserError, match="its own base"):
        load_recipe(tmp_path / "a.yaml")


def test_a_base_that_is_not_there_is_told_with_its_line_and_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 1\nbase: quickstart/taid\n")
    with pytest.raises(UserError, match=r"mine.yaml:2: base 'quickstart/taid' is no file.*taid-vlm recipes cp"):
        load_recipe(tmp_path / "mine.yaml")


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL.replace("path: x.jsonl", "path: ./x.jsonl"))
    assert load_recipe(file).data.train[0].path == str(tmp_path / "x.jsonl")


def test_so_are_the_paths_of_tasks(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL + "evaluation: {tasks: [./pets.yaml, easy_vqa]}\n")
    assert load_recipe(file).evaluation.tasks == [str(tmp_path / "pets.yaml"), "easy_vqa"]


def test_a_shipped_recipe_is_the_same_in_every_checkout() -> None:
    for name in list_recipes():
        if name != "quickstart/student":
            assert str(recipes_folder().parent) not in dump_recipe(load_recipe(name)), name
