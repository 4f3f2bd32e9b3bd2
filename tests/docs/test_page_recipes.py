"""YAML on the pages goes through the schema that it is written for, Python compiles, and keys that other tools' are compared with exist."""

import inspect
import itertools
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from taid_vlm.common.errors import UserError
from taid_vlm.losses.methods import DIVERGENCES
from taid_vlm.models.projectors import PROJECTORS
from taid_vlm.models.specs import StudentSpec
from taid_vlm.recipe import Recipe, load_recipe
from taid_vlm.recipe.source import Source, apply_override, merge
from taid_vlm_eval.task_files import load_task
from tests.docs.pages import Block, blocks, text_of

BASES = ("quickstart/taid", "quickstart/language", "quickstart/gkd", "quickstart/sft")
PLUG_INS = "docs/plug-ins.md"  # its recipe names packages that tests/plug_ins installs, and trains with them
WHOLE = {"student", "data", "loss", "training"}  # of a recipe that stands for itself
KEY = re.compile(r"`((?:student|teacher|data|loss|on_policy|training|evaluation)\.[\w.]+|seed)(?:=([^`]+))?`")


def content_of(base: str) -> dict[str, Any]:
    return load_recipe(base).model_dump(mode="json", exclude_unset=True)


def fits(part: dict[str, Any]) -> list[str]:
    """What keeps a part of a recipe from being one: messages, one for each base that it was laid over, none where it fits a base."""
    if set(part) >= WHOLE:
        return _problems(part)
    found = []
    for base, replaced in itertools.product(BASES, (("student", "teacher"), ("student",), ("teacher",), ())):
        below = {key: value for key, value in content_of(base).items() if not (key in replaced and key in part)}
        if not (problems := _problems(merge(Source(below), Source(part)).content)):
            return []
        found += problems
    return found


def _problems(content: dict[str, Any]) -> list[str]:
    try:
        Recipe.model_validate(content)
    except ValidationError as error:
        return [str(error)]
    return []


@pytest.mark.parametrize("block", [one for one in blocks("yaml") if one.page != PLUG_INS], ids=str)
def test_yaml_is_a_recipe_a_part_of_one_or_a_task(block: Block, tmp_path: Path) -> None:
    content = yaml.safe_load(block.text)
    if isinstance(content, list):
        content = {"data": {"train": content}}
    if "scorer" in content:
        file = tmp_path / f"{content['name']}.yaml"
        file.write_text(block.text)
        load_task(str(file))
    elif set(content) <= set(StudentSpec.model_fields):
        StudentSpec.model_validate(content)
    else:
        content.pop("base", None)
        problems = fits(content)
        assert not problems, f"{block} fits no recipe; laid over {BASES[0]}: {problems[0]}"


@pytest.mark.parametrize(
    "wrong",
    ["loss: {nam: taid}", "training: {gradient_checkpoint: true}", "loss: {schedule: liner}", "teacher: {cache: true}"],
)
def test_a_part_that_fits_nothing_is_found(wrong: str) -> None:
    assert fits(yaml.safe_load(wrong))


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


def compared() -> list[tuple[str, str | None]]:
    """Keys, and values where there are any, in the tables of the page on other tools."""
    rows = [
        row
        for table in text_of("docs/migration.md").split("<!-- keys -->")[1:]
        for row in table.split("\n\n")[0].splitlines()
    ]
    cells = [re.split(r"(?<!\\)\|", row)[2:4] for row in rows if row.startswith("| `") or row.startswith("| (")]
    assert len(cells) > 80
    for ours, _ in cells:
        assert ours.strip() == "-" or KEY.search(ours), f"neither a key nor a dash: {ours}"
    return sorted(
        {(key, value or None) for pair in cells for cell in pair for key, value in KEY.findall(cell)}, key=str
    )


@pytest.mark.parametrize(("key", "value"), compared())
def test_a_key_that_is_compared_with_another_tools_exists(key: str, value: str | None) -> None:
    assert _is_key(Recipe, key.split(".")), key
    if value is None:
        return
    for base in BASES:
        try:
            changed = apply_override(Source(content_of(base)), f"{key}={value}").content
            changed["training"] |= {"validate_every": 5}  # some values ask for it, or for the one below
            changed["data"]["validation"] = changed["data"]["train"]
            if value == "split":
                changed["student"]["images"]["style"] = "smolvlm"
            Recipe.model_validate(changed)
            return
        except (ValidationError, UserError) as error:
            problem = error
    raise AssertionError(f"{key}={value}") from problem


def test_a_key_that_does_not_exist_is_found() -> None:
    for wrong in ("loss.alfa", "student.projector.options.ratios", "loss.options.gamma", "data.train.paths"):
        assert not _is_key(Recipe, wrong.split(".")), wrong


def _is_key(model: type[BaseModel], path: list[str]) -> bool:
    name, rest = path[0], path[1:]
    if name not in model.model_fields:
        return False
    if not rest:
        return True
    inner = _model_in(model.model_fields[name].annotation)
    if inner is not None:
        return _is_key(inner, rest)
    return name == "options" and len(rest) == 1 and rest[0] in _options(model.__name__)


def _options(owner: str) -> set[str]:
    if owner == "LossConfig":
        return {option for name in DIVERGENCES.names() for option in DIVERGENCES.get(name).options}
    made = [inspect.signature(PROJECTORS.get(name)).parameters.values() for name in PROJECTORS.names()]
    return {one.name for parameters in made for one in parameters if one.kind == one.KEYWORD_ONLY}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for found in map(_model_in, get_args(annotation)) if found is not None), None)
