"""The command line: opens, evaluates, prints."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve
from taid_vlm.common.progress import waiting
from taid_vlm.common.stopping import status_of, stopping_once
from taid_vlm.common.telling import tell
from taid_vlm_eval.answering import WORKERS, Standing
from taid_vlm_eval.command import evaluate_command
from taid_vlm_eval.judges import open_judge
from taid_vlm_eval.models import OpenOptions, open_model, split_prefix
from taid_vlm_eval.planned import plan_call
from taid_vlm_eval.processes import helpers, place_of, say_beside
from taid_vlm_eval.progress import shown
from taid_vlm_eval.protocols import DEFAULT
from taid_vlm_eval.results import Results
from taid_vlm_eval.runner import evaluate
from taid_vlm_eval.suites import Wanted


def run(
    model: str | Path,
    tasks: Sequence[Wanted] = (),
    *,
    suite: str | None = None,
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
    protocol: str = DEFAULT,
    family: str | None = None,
    letters: str = "generated",
    teacher: str | Path | None = None,
    judge: str = "rule",
    timeout: float = 120.0,
    key_variable: str = "OPENAI_API_KEY",
    judge_key_variable: str = "OPENAI_API_KEY",
    workers: int = WORKERS,
    processes: int = 1,
    helps: bool = False,
    quiet: bool = False,
) -> Results:
    """What the command does, for other commands to call: open, evaluate, print to standard output.

    A task that cannot be run (no scorer, no data) is told, and the others go on.

    Args:
        tasks: names of tasks or suites, YAML files, or tasks that were read.
        suite: a name of :data:`taid_vlm_eval.suites.SUITES`; its tasks follow ``tasks``.
        output: where answers and results go; by default see :func:`default_output`.
        as_json: print a JSON list of results in place of a table.
        protocol, family: how tasks are asked and read, see :mod:`taid_vlm_eval.protocols`.
        letters: ``generated`` or by ``likelihood``.
        teacher: the model from which tasks that ask for one measure the divergence.
        judge: see :func:`taid_vlm_eval.judges.open_judge`.
        timeout, key_variable, judge_key_variable: of servers, see :class:`taid_vlm_eval.models.OpenOptions`.
        processes: on this machine, each with its own copy of the model; several GPUs are dealt out among them. Under torchrun or
            accelerate, processes are there already: each takes its own GPU, and only the first one prints, scores and writes.
        helps: only answer what no other process has taken, for the process that started this one; print, score and write nothing.
        quiet: say nothing of how far it is.
        others: see :func:`taid_vlm_eval.models.open_model` and :func:`taid_vlm_eval.runner.evaluate`.

    Raises:
        UserError: see those two; at the end, when tasks were not run.
    """
    given = {**locals(), "processes": 1}
    place = place_of(device, processes)
    say = say_beside if helps else tell
    helps = helps or not place.first
    settings: dict[str, Any] = {"limit": limit, "batch_size": batch_size, "workers": workers, "protocol": protocol}
    settings |= {"family": family, "letters": letters}
    # Loading a model takes long; a misspelt task or missing data should be told before.
    more: dict[str, Any] = {"has_teacher": teacher is not None, "has_judge": judge != "rule"}
    planned = plan_call(tasks, suite, tasks_folders=tasks_folders, **settings, **more)
    folder = Path(output) if output is not None else default_output(model, protocol)
    options: dict[str, Any] = {"device": place.device, "dtype": dtype, "trust_remote_code": trust_remote_code}
    with ExitStack() as stack:
        # Helpers load their models while this process loads its own.
        beside = stack.enter_context(helpers(given, processes))
        with nullcontext() if quiet or helps else waiting("loading"):
            asked = open_model(model, adapter, timeout=timeout, key_variable=key_variable, **options)
            measured = None if teacher is None else open_model(teacher, **options)
            reader = open_judge(judge, OpenOptions(**options, timeout=timeout, key_variable=judge_key_variable))
        show = stack.enter_context(shown(quiet or helps))

        def watch(standing: Standing) -> None:
            show(standing)
            beside.check()

        found = evaluate(
            asked,
            planned.tasks,
            output_dir=folder,
            seed=seed,
            watch=watch,
            finish=not helps,
            say=say,
            not_run=planned.not_run,
            teacher=measured,
            judge=reader,
            **settings,
        )
    if helps:
        return Results(found)
    results = planned.results(found, protocol, folder)
    if as_json:
        print(results.to_json())
    else:
        from taid_vlm_eval.table import print_table

        print_table(results)
    if results.not_run:
        raise UserError(f"not run: {', '.join(results.not_run)}; the results of the other tasks are complete")
    return results


def default_output(model: str | Path, protocol: str = DEFAULT) -> Path:
    """``evaluation/<owner>--<name>`` of a hub id; of a folder, ``evaluation/<parent>--<name>``; with a protocol, its name behind.

    The students of all runs lie in folders called "student": with that name alone, one would overwrite the other.
    """
    served, name = split_prefix(model)
    if served == "openai":
        from taid_vlm_eval.models.openai import parse_address

        model = parse_address(name).short.replace(":", "-")
    folder = Path(resolve(name if served == "vllm" else str(model))).expanduser()
    name = f"{folder.resolve().parent.name}/{folder.resolve().name}" if folder.is_dir() else str(model)
    plain = name.strip("/").replace("/", "--")
    return Path("evaluation") / (plain if protocol == DEFAULT else f"{plain}--{protocol}")


class _StoppedError(Exception):
    """Ctrl-C or SIGTERM, which the parser would swallow."""


def _app() -> typer.Typer:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command(context_settings={"help_option_names": ["--help", "-h"]})
    @wraps(evaluate_command)
    def command(**options: Any) -> None:
        try:
            evaluate_command(**options)
        except KeyboardInterrupt as stopped:
            raise _StoppedError(status_of(stopped)) from None

    return app


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m taid_vlm_eval``.

    Returns:
        The exit status: 0, 1 after one line on standard error when the user made a mistake, 2 for an unknown option, 130 for Ctrl-C, 143 for SIGTERM.
    """
    try:
        with stopping_once():
            _app()(args=None if argv is None else list(argv), prog_name="python -m taid_vlm_eval")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except UserError as error:
        tell(f"error: {error}")
        return 1
    except _StoppedError as stopped:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return int(stopped.args[0])
    return 0
