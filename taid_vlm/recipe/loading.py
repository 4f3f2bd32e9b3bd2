"""From a recipe's name or file to a checked :class:`Recipe`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from taid_vlm.common.errors import UserError, close_names, did_you_mean
from taid_vlm.common.paths import recipes_folder
from taid_vlm.recipe.schema import Recipe
from taid_vlm.recipe.source import Source, apply_override, read_source


def list_recipes() -> list[str]:
    """Names of the shipped recipes, such as ``quickstart/taid``."""
    folder = recipes_folder()
    files = (p for p in folder.rglob("*.yaml") if p.stem != "base")
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in files)


def find_recipe(name: str) -> Path:
    """A recipe file, by path or by the name of a shipped recipe.

    Raises:
        UserError: neither exists; close names are listed.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = recipes_folder() / f"{name.removeprefix('recipes/').removesuffix('.yaml')}.yaml"
    if shipped.is_file():
        return shipped
    raise UserError(
        f"recipe not found: {name}; give a YAML file or the name of a shipped recipe: {did_you_mean(name, list_recipes())}"
    )


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, merge, override and check a recipe.

    Args:
        name: a YAML file, or a shipped recipe such as ``quickstart/taid``.
        overrides: ``key.path=value`` texts.

    Raises:
        UserError: everything that is wrong, one line each, with file and line.
    """
    source = read_source(find_recipe(str(name)))
    for text in overrides:
        source = apply_override(source, text)
    try:
        return Recipe.model_validate(source.content)
    except ValidationError as error:
        lines = [_explain(problem, source) for problem in error.errors()]
        raise UserError("the recipe does not fit:\n" + "\n".join(f"  {line}" for line in lines)) from error


def description_of(name: str) -> str | None:
    """What a recipe says of itself, whether it fits the schema or lacks keys that its user gives."""
    said = read_source(find_recipe(name)).content.get("description")
    return str(said) if said else None


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML; loading it gives an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _explain(problem: Any, source: Source) -> str:
    keys = tuple(str(part) for part in problem["loc"])
    place, dotted = source.place(keys), ".".join(keys)
    if problem["type"] == "extra_forbidden":
        known = _fields_at(keys[:-1])
        return f"{place}: unknown key {dotted!r}; {did_you_mean(keys[-1], known)}"
    if problem["type"] == "missing":
        return f"{place}: the key {dotted!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    found = (
        "" if isinstance(problem["input"], (dict, BaseModel)) else f" (found {problem['input']!r}{_near_miss(problem)})"
    )
    return f"{place}: {dotted + ': ' if dotted else ''}{message}{found}"


def _near_miss(problem: Any) -> str:
    """Of a value that is none of those allowed, which pydantic's message lists: those that it looks like."""
    if problem["type"] != "literal_error" or not isinstance(problem["input"], str):
        return ""
    allowed = re.findall("'([^']*)'", problem["ctx"]["expected"])
    meant = close_names(problem["input"], allowed)
    return f"; {meant}" if meant else ""


def _fields_at(keys: tuple[str, ...]) -> list[str]:
    model: type[BaseModel] = Recipe
    for key in keys:
        if key.isdigit():
            continue
        annotation = model.model_fields[key].annotation if key in model.model_fields else None
        found = _model_in(annotation)
        if found is None:
            return []
        model = found
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for m in map(_model_in, get_args(annotation)) if m is not None), None)
