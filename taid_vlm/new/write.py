"""A recipe as YAML with a comment at each key, out of the schema's own descriptions."""

import textwrap
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import write_atomic
from taid_vlm.common.telling import tell
from taid_vlm.new.answers import Answers, as_places, completed
from taid_vlm.new.content import content_of
from taid_vlm.recipe.schema import Recipe

WIDTH = 120
HEAD = """\
# Written by taid-vlm new. Every key can be changed here, or on the command line as key.path=value; `taid-vlm recipes schema` has all keys.
#   taid-vlm plan {name}       what it takes, before it is started
#   taid-vlm preview {name}    the samples as both models will see them
#   taid-vlm train {name}
"""


def write_new(out: Path, given: Answers) -> Path:
    """Write the recipe to a file that is not there yet.

    Args:
        out: file to write; folders above it are made.
        given: answers; what is missing is asked for on a terminal.

    Raises:
        UserError: the file exists, answers are missing, or they do not make a recipe.
    """
    if out.exists():
        raise UserError(f"{out} exists; choose another name")
    content, notes = content_of(as_places(completed(given)))
    try:
        Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError(
            f"the answers make no recipe: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        ) from error
    write_atomic(out, HEAD.format(name=out) + "\n" + "\n".join(commented(Recipe, content)) + "\n")
    for note in notes:
        tell(f"note: {note}")
    return out


def commented(model: type[BaseModel], content: dict[str, Any], depth: int = 0) -> list[str]:
    """Lines of YAML for values that ``model`` takes, each key below what its description says."""
    lines, indent = [], "  " * depth
    for key, value in content.items():
        field = model.model_fields[key]
        inner = _model_in(field.annotation)
        said = field.description or (inner.__doc__ if inner is not None else "") or ""
        lines += [f"{indent}# {line}" for line in textwrap.wrap(" ".join(said.split()), WIDTH - 2 - len(indent))]
        if inner is not None and isinstance(value, dict):
            lines += [f"{indent}{key}:", *commented(inner, value, depth + 1)]
        elif inner is not None and isinstance(value, list):
            lines.append(f"{indent}{key}:")
            for one in value:
                lines += _item(commented(inner, one, depth + 2), indent)
        else:
            lines.append(f"{indent}{key}: {_scalar(value)}")
    return lines


def _item(lines: list[str], indent: str) -> list[str]:
    """The lines of one entry of a list: a dash before its first key, comments above it stay above."""
    first = next(index for index, line in enumerate(lines) if not line.lstrip().startswith("#"))
    marked = f"{indent}  - {lines[first].lstrip()}"
    return [*lines[:first], marked, *lines[first + 1 :]]


def _scalar(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6).removesuffix("...\n").strip()


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for found in map(_model_in, get_args(annotation)) if found is not None), None)
