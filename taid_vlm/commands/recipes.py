"""``taid-vlm recipes``: list, show and copy what is shipped."""

import json
from pathlib import Path
from typing import Annotated

import typer

from taid_vlm.commands.arguments import Overrides, RecipeName
from taid_vlm.common.errors import UserError

recipes_app = typer.Typer(help="List, show and copy the shipped recipes.", no_args_is_help=True)


@recipes_app.command("ls")
def recipes_ls(
    as_json: Annotated[bool, typer.Option("--json", help="print a list of names and descriptions as JSON")] = False,
) -> None:
    """Names of the shipped recipes."""
    from taid_vlm.recipe import list_recipes

    names = list_recipes()
    if not as_json:
        print("\n".join(names))
        return
    rows = [{"name": name, "description": _description(name)} for name in names]
    print(json.dumps(rows, indent=2, ensure_ascii=False))


@recipes_app.command("show")
def recipes_show(recipe: RecipeName, overrides: Overrides = None) -> None:
    """A recipe with its bases and overrides resolved."""
    from taid_vlm.recipe import dump_recipe, load_recipe

    print(dump_recipe(load_recipe(recipe, overrides or [])), end="")


@recipes_app.command("schema")
def recipes_schema() -> None:
    """JSON Schema of recipes, for editors."""
    from taid_vlm.recipe import Recipe

    print(json.dumps(Recipe.model_json_schema(), indent=2))


@recipes_app.command("cp")
def recipes_cp(
    recipe: RecipeName, target: Annotated[Path, typer.Argument(help="file to write; it must not be there yet")]
) -> None:
    """Write a shipped recipe, resolved, to a file of your own."""
    from taid_vlm.common.files import write_atomic
    from taid_vlm.recipe import dump_recipe, load_recipe

    if target.exists():
        raise UserError(f"{target} exists; choose another name")
    write_atomic(target, dump_recipe(load_recipe(recipe)))
    print(target)


def _description(name: str) -> str | None:
    """What a shipped file says of itself; None where it lacks keys that its user gives, such as paths."""
    from taid_vlm.recipe import load_recipe

    try:
        return load_recipe(name).description
    except UserError:
        return None
