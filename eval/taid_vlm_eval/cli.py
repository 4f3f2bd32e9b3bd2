"""The command line: parses, calls :func:`run`, prints."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from taid_vlm.common.errors import UserError
from taid_vlm_eval.answering import Progress
from taid_vlm_eval.models import ADAPTERS, open_model
from taid_vlm_eval.result import Result
from taid_vlm_eval.runner import check_call, evaluate
from taid_vlm_eval.task import TaskFile, list_tasks


def run(
    model: str | Path,
    tasks: Sequence[str | Path | TaskFile],
    *,
    output: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    tasks_folders: Sequence[str | Path] = (),
    adapter: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    as_json: bool = False,
) -> list[Result]:
    """What the command does, for other commands to call: open, evaluate, print to standard output.

    Args:
        output: where answers and results go; by default see :func:`default_output`.
        as_json: print a JSON list of results in place of a table.
        others: see :func:`taid_vlm_eval.models.open_model` and :func:`taid_vlm_eval.runner.evaluate`.

    Raises:
        UserError: see those two.
    """
    # Loading a model takes long; a misspelt task should be told before.
    task_files = check_call(tasks, limit=limit, batch_size=batch_size, tasks_folders=tasks_folders)
    opened = open_model(model, adapter, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    folder = Path(output) if output is not None else default_output(model)
    with _progress_bar() as progress:
        results = evaluate(
            opened,
            task_files,
            output_dir=folder,
            limit=limit,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
            say=lambda text: print(text, file=sys.stderr),
        )
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=2, ensure_ascii=False))
    else:
        print_table(results, folder)
    return results


def default_output(model: str | Path) -> Path:
    """``evaluation/<owner>--<name>`` of a hub id; of a folder, ``evaluation/<parent>--<name>``.

    The students of all runs lie in folders called "student": with that name alone, one would overwrite the other.
    """
    folder = Path(model).expanduser()
    name = f"{folder.resolve().parent.name}/{folder.resolve().name}" if folder.is_dir() else str(model)
    return Path("evaluation") / name.strip("/").replace("/", "--")


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        lines = {}

        def progress(task: str, done: int, total: int) -> None:
            if task not in lines:
                lines[task] = bar.add_task(task, total=total)
            bar.update(lines[task], completed=done)

        yield progress


def print_table(results: Sequence[Result], folder: Path) -> None:
    """One row per task: figure with 95 % interval, majority baseline, items, errors, speed."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    table = Table()
    for heading in ("task", "metric"):
        table.add_column(heading)
    for heading in ("value (95 %)", "majority", "n", "errors", "answers/s"):
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(
            result.task,
            result.metric,
            f"{result.value:.4f} ({result.low:.4f} to {result.high:.4f})",
            "-" if result.majority is None else f"{result.majority:.4f}",
            str(result.n),
            str(result.errors),
            "-" if result.answers_per_second is None else f"{result.answers_per_second:.1f}",
        )
    console, boundless = Console(), Console(width=1000)
    # rich would cut figures short to fit; a line that is too long is better.
    console.width = max(console.width, Measurement.get(boundless, boundless.options, table).maximum)
    console.print(table)
    for result in results:
        for error in result.first_errors:
            line = f"{result.task}: item {error['id']}: {error['error']}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"answers and results: {folder}", markup=False, highlight=False, soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="taid_vlm_eval", description="Evaluate a model on question-answer tasks.")
    parser.add_argument("model", nargs="?", help="folder of a student or of a transformers checkpoint, or a hub id")
    parser.add_argument("--tasks", help="names or YAML files, separated by commas")
    parser.add_argument("--list-tasks", action="store_true", help="print the names of all tasks and stop")
    parser.add_argument("--limit", type=int, help="at most this many items of each task")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of items and the error bars (0)")
    parser.add_argument("--batch-size", type=int, default=32, help="items asked at a time (32)")
    parser.add_argument("--output", help="folder for answers and results (evaluation/<model>)")
    parser.add_argument("--tasks-folder", action="append", default=[], help="one more folder of tasks; may be repeated")
    parser.add_argument("--adapter", help=f"how to load the model: {', '.join(ADAPTERS)} (found out)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (the first accelerator, else cpu)")
    parser.add_argument("--dtype", help="float32, bfloat16, float16 (as stored)")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the checkpoint")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser


def _run_command(arguments: argparse.Namespace) -> None:
    if arguments.list_tasks:
        print("\n".join(list_tasks(arguments.tasks_folder)))
        return
    if arguments.model is None or not arguments.tasks:
        raise UserError(
            "a model and --tasks are needed, for example: MODEL --tasks easy_vqa; --list-tasks names all tasks"
        )
    run(
        arguments.model,
        [name.strip() for name in arguments.tasks.split(",") if name.strip()],
        output=arguments.output,
        limit=arguments.limit,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        tasks_folders=arguments.tasks_folder,
        adapter=arguments.adapter,
        device=arguments.device,
        dtype=arguments.dtype,
        trust_remote_code=arguments.trust_remote_code,
        as_json=arguments.json,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 after one line on standard error when the user made a mistake."""
    try:
        _run_command(_parser().parse_args(argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
