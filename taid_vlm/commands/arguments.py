"""Arguments that several commands have, and what a shell completes for them."""

from typing import Annotated

import typer


def complete_recipes(incomplete: str) -> list[str]:
    """Shipped recipes that begin so; files are the shell's own business."""
    from taid_vlm.recipe import list_recipes

    return [name for name in list_recipes() if name.startswith(incomplete)]


def complete_strategies(incomplete: str) -> list[str]:
    """Strategies that begin so."""
    from taid_vlm.launch.strategies import STRATEGIES

    return [name for name in STRATEGIES if name.startswith(incomplete)]


RECIPE_HELP = "YAML file, or name of a shipped recipe such as quickstart/taid"
RecipeName = Annotated[str, typer.Argument(help=RECIPE_HELP, autocompletion=complete_recipes)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key.path=value over the recipe, for example training.steps=100")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="run code that comes with the student's language model")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print only the result")]
