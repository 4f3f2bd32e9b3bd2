"""Commands that ask a model: ``eval``, ``compare``, ``chat``."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from taid_vlm.commands.arguments import Quiet, Tasks, TasksFolder, complete_suites, complete_tasks, names_in
from taid_vlm.commands.quiet import quietly
from taid_vlm.common.errors import UserError

measuring_app = typer.Typer()


@measuring_app.command("eval")
def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="folder of a student or checkpoint, a hub id, openai:MODEL@URL or vllm:PATH")
    ] = None,
    tasks: Tasks = "",
    suite: Annotated[
        str | None,
        typer.Option(
            help="openvlm, vqa, hallucination, documents, captions, language or smoke", autocompletion=complete_suites
        ),
    ] = None,
    tasks_folder: TasksFolder = None,
    limit: Annotated[int | None, typer.Option(help="at most so many items of each task")] = None,
    batch_size: Annotated[int, typer.Option(help="questions answered together")] = 32,
    output: Annotated[Path | None, typer.Option(help="folder for answers and results [evaluation/NAME]")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="fetch nothing: models and data must be here")] = False,
    protocol: Annotated[
        str, typer.Option(help="how to ask and to read: default, openvlm-2025-01 or openvlm-current")
    ] = "default",
    family: Annotated[str | None, typer.Option(help="of the model, for a protocol [by its class]")] = None,
    letters: Annotated[
        str, typer.Option(help="of options: generated, or by likelihood, one forward pass an item")
    ] = "generated",
    teacher: Annotated[
        str | None, typer.Option(help="model from which tasks such as kl_chatterbot measure the divergence")
    ] = None,
    judge: Annotated[
        str, typer.Option(help="reads answers that no rule can: rule (none), openai:MODEL@URL or local:PATH")
    ] = "rule",
    processes: Annotated[int, typer.Option(help="processes that share the work, each with its model")] = 1,
    workers: Annotated[int, typer.Option(help="threads that prepare batches ahead, in each process")] = 2,
    timeout: Annotated[float, typer.Option(help="seconds a server may take for an answer")] = 120.0,
    key_variable: Annotated[str, typer.Option(help="environment variable with a server's key")] = "OPENAI_API_KEY",
    judge_key_variable: Annotated[str, typer.Option(help="the same for a judge")] = "OPENAI_API_KEY",
    show_protocol: Annotated[str | None, typer.Option(help="print what a protocol asks of --family, and stop")] = None,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="print results as JSON")] = False,
) -> None:
    """Evaluate a student or any released checkpoint."""
    from taid_vlm_eval.cli import go_offline, print_protocol, run

    if show_protocol is not None:
        print_protocol(show_protocol, family, tasks)
        return
    if model is None:
        raise UserError("a model is missing: the folder of a student or of a transformers checkpoint, or a hub id")
    if offline:
        go_offline()
    with quietly(quiet, output=False):
        run(
            model,
            names_in(tasks),
            suite=suite,
            tasks_folders=tasks_folder or [],
            limit=limit,
            batch_size=batch_size,
            output=output,
            as_json=as_json,
            protocol=protocol,
            family=family,
            letters=letters,
            teacher=teacher,
            judge=judge,
            processes=processes,
            workers=workers,
            timeout=timeout,
            key_variable=key_variable,
            judge_key_variable=judge_key_variable,
            quiet=quiet,
        )


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
) -> None:
    """Ask a student questions."""
    from taid_vlm.chat import chat as answer

    answer(model, image, [prompt] if prompt is not None else _typed_questions(), print)


def _typed_questions() -> Iterator[str]:
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
