"""Arguments that several commands have, and what a shell completes for them."""

from pathlib import Path
from typing import Annotated

import typer


def complete_recipes(incomplete: str) -> list[str]:
    """Shipped recipes that begin so; files are the shell's own business."""
    from taid_vlm.recipe import list_recipes

    return [name for name in list_recipes() if name.startswith(incomplete)]


def complete_tasks(incomplete: str) -> list[str]:
    """Tasks that end the list so: all but what follows the last comma stays as it is."""
    from taid_vlm_eval.task import list_tasks

    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [f"{before}{comma}{name}" for name in list_tasks() if name.startswith(last) and name not in taken]


def complete_suites(incomplete: str) -> list[str]:
    """Suites that begin so."""
    from taid_vlm_eval.suites import SUITES

    return [name for name in SUITES if name.startswith(incomplete)]


def complete_strategies(incomplete: str) -> list[str]:
    """Strategies that begin so."""
    from taid_vlm.launch.strategies import STRATEGIES

    return [name for name in STRATEGIES if name.startswith(incomplete)]


RECIPE_HELP = "YAML file, or name of a shipped recipe such as quickstart/taid"
RecipeName = Annotated[str, typer.Argument(help=RECIPE_HELP, autocompletion=complete_recipes)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key.path=value over the recipe, for example training.steps=100")
]
Tasks = Annotated[
    str, typer.Option(help="names or YAML files of tasks, separated by commas", autocompletion=complete_tasks)
]
TasksFolder = Annotated[list[Path] | None, typer.Option(help="one more folder of tasks; may be given several times")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print only the result")]


def names_in(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
