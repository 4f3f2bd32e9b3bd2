"""Arguments that several commands have, and what a shell completes for them. Cheap to import: it loads neither torch nor tasks."""

from pathlib import Path
from typing import Annotated

import typer


def complete_tasks(incomplete: str) -> list[str]:
    """Tasks that end the list so: all but what follows the last comma stays as it is."""
    from taid_vlm_eval.task_files import list_tasks

    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [f"{before}{comma}{name}" for name in list_tasks() if name.startswith(last) and name not in taken]


def complete_suites(incomplete: str) -> list[str]:
    """Suites that begin so."""
    from taid_vlm_eval.suites import SUITES

    return [name for name in SUITES if name.startswith(incomplete)]


def complete_protocols(incomplete: str) -> list[str]:
    """Protocols that begin so."""
    from taid_vlm_eval.protocols import PROTOCOLS

    return [name for name in PROTOCOLS if name.startswith(incomplete)]


Tasks = Annotated[
    str, typer.Option(help="names or YAML files of tasks, separated by commas", autocompletion=complete_tasks)
]
TasksFolder = Annotated[list[Path] | None, typer.Option(help="one more folder of tasks; may be given several times")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print only the result")]


def names_in(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
