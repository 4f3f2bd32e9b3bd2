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
    """The shipped recipes, each with what it is."""
    from taid_vlm.recipe import description_of, list_recipes

    rows = {name: description_of(name) for name in list_recipes()}
    if as_json:
        said = [{"name": name, "description": description} for name, description in rows.items()]
        print(json.dumps(said, indent=2, ensure_ascii=False))
        return
    width = max(map(len, rows))
    for name, description in rows.items():
        print(f"{name:{width}}  {description or ''}".rstrip())


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
