"""The command as it is typed: ``taid-vlm eval`` and ``python -m taid_vlm_eval`` are this one function."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from taid_vlm.common.errors import UserError
from taid_vlm_eval.arguments import Quiet, Tasks, TasksFolder, complete_protocols, complete_suites, names_in

EXAMPLE = "for example: taid-vlm eval runs/taid/student --tasks easy_vqa"


def evaluate_command(
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
    list_tasks: Annotated[bool, typer.Option("--list-tasks", help="print the names of all tasks, and stop")] = False,
    limit: Annotated[int | None, typer.Option(help="at most so many items of each task")] = None,
    seed: Annotated[int, typer.Option(help="of the choice of items and of the error bars")] = 0,
    batch_size: Annotated[int, typer.Option(help="questions answered together")] = 32,
    output: Annotated[Path | None, typer.Option(help="folder for answers and results [evaluation/NAME]")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="fetch nothing: models and data must be here")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ... [the first accelerator, else cpu]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16 [as stored]")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="how the model is loaded: student, transformers, openai or vllm [found out]")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="run code that comes with the checkpoint")
    ] = False,
    protocol: Annotated[
        str,
        typer.Option(
            help="how to ask and to read: default, openvlm-2025-01 or openvlm-current",
            autocompletion=complete_protocols,
        ),
    ] = "default",
    family: Annotated[str | None, typer.Option(help="of the model, for a protocol [by its class]")] = None,
    show_protocol: Annotated[str | None, typer.Option(help="print what a protocol asks of --family, and stop")] = None,
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
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="print results as JSON")] = False,
) -> None:
    """Evaluate a student or any released checkpoint."""
    from taid_vlm_eval.task_files import list_tasks as all_tasks

    if list_tasks:
        print("\n".join(all_tasks(tasks_folder or [])))
        return
    if show_protocol is not None:
        print_protocol(show_protocol, family, names_in(tasks))
        return
    if model is None:
        raise UserError(f"no model is named: the folder of a student or of a checkpoint, or a hub id; {EXAMPLE}")
    if not names_in(tasks) and suite is None:
        raise UserError(f"no task is named: --tasks or --suite does, and --list-tasks prints all; {EXAMPLE}")
    if offline:
        go_offline()
    from taid_vlm_eval.cli import run

    run(
        model,
        names_in(tasks),
        suite=suite,
        tasks_folders=tasks_folder or [],
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        output=output,
        device=device,
        dtype=dtype,
        adapter=adapter,
        trust_remote_code=trust_remote_code,
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


def print_protocol(name: str, family: str | None, tasks: Sequence[str] = ()) -> None:
    """Print what a protocol asks of a family, of the named tasks or, without any, of those of the paper's table.

    Raises:
        UserError: no family, or see :func:`taid_vlm_eval.protocols.show.show_protocol`.
    """
    from taid_vlm_eval.protocols import DEFAULT, load_protocol
    from taid_vlm_eval.protocols.show import show_protocol

    if name == DEFAULT:
        raise UserError(
            "under the protocol 'default' every task is what its own file says; --show-protocol shows the others"
        )
    if family is None:
        raise UserError(f"--family is missing; the protocol {name!r} has {', '.join(load_protocol(name).families)}")
    print(show_protocol(name, family, tasks))


def go_offline() -> None:
    """Let neither models nor data be fetched in this process; to be called before transformers is imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"
