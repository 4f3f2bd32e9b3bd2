"""Commands that ask a model: ``eval``, ``compare``, ``chat``."""

import sys
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from taid_vlm.commands.arguments import TrustRemoteCode
from taid_vlm.commands.quiet import quietly
from taid_vlm.common.visible import visible
from taid_vlm_eval.arguments import TasksFolder, complete_tasks, names_in
from taid_vlm_eval.command import evaluate_command

measuring_app = typer.Typer()


@measuring_app.command("eval")
@wraps(evaluate_command)
def evaluate(**options: Any) -> None:
    """See :func:`taid_vlm_eval.command.evaluate_command`, which has the options."""
    with quietly(options["quiet"], output=False):
        evaluate_command(**options)


@measuring_app.command()
def compare(
    folders: Annotated[
        list[Path], typer.Argument(help="folders that eval wrote; the first is compared with each other")
    ],
    tasks: Annotated[
        str,
        typer.Option(help="names of tasks, separated by commas [all that they share]", autocompletion=complete_tasks),
    ] = "",
    tasks_folder: TasksFolder = None,
    html: Annotated[
        Path | None, typer.Option(help="also write a page of the items that one gets right and the other wrong")
    ] = None,
    most: Annotated[int, typer.Option(min=0, help="items that the page shows of each kind")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="print the differences as JSON")] = False,
) -> None:
    """Paired differences of evaluations of the same items, with intervals."""
    from taid_vlm_eval.compare_command import run_compare

    run_compare(folders, tasks=names_in(tasks), tasks_folders=tasks_folder or [], html=html, most=most, as_json=as_json)


@measuring_app.command()
def chat(
    model: Annotated[str, typer.Argument(help="folder of a student")],
    image: Annotated[Path | None, typer.Option(help="picture that the questions are about")] = None,
    prompt: Annotated[str | None, typer.Option(help="one question; without it they are read line by line")] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Ask a student questions."""
    from taid_vlm.chat import chat as answer

    questions = [prompt] if prompt is not None else _typed_questions()
    answer(model, image, questions, lambda said: print(visible(said)), trust_remote_code=trust_remote_code)


def _typed_questions() -> Iterator[str]:
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
