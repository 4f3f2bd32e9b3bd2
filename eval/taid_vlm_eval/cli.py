"""The command line: parses, calls :func:`run`, prints."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from taid_vlm.common.errors import UserError
from taid_vlm.common.paths import resolve
from taid_vlm_eval.answering import WORKERS, Standing
from taid_vlm_eval.arguments import parser
from taid_vlm_eval.judges import open_judge
from taid_vlm_eval.models import OpenOptions, open_model, split_prefix
from taid_vlm_eval.processes import helpers, place_of, say_beside
from taid_vlm_eval.progress import shown
from taid_vlm_eval.protocols import DEFAULT, load_protocol, require_choice
from taid_vlm_eval.result import Result
from taid_vlm_eval.runner import cannot_run, check_call, evaluate
from taid_vlm_eval.suites import suite_tasks
from taid_vlm_eval.task import TaskFile, list_tasks
from taid_vlm_eval.ways import require_letters, require_teacher


def run(
    model: str | Path,
    tasks: Sequence[str | Path | TaskFile] = (),
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
) -> list[Result]:
    """What the command does, for other commands to call: open, evaluate, print to standard output.

    A task that cannot be run (no scorer, no data) is told, and the others go on.

    Args:
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
    settings = {**locals(), "processes": 1}
    place = place_of(device, processes)
    say = say_beside if helps else _say
    helps = helps or not place.first
    tasks, not_run = [*tasks], dict[str, str]()
    if suite is not None:
        tasks, not_run = _with_suite(tasks, suite, tasks_folders)
    # Loading a model takes long; a misspelt task or missing data should be told before.
    task_files = check_call(tasks, limit=limit, batch_size=batch_size, workers=workers, tasks_folders=tasks_folders)
    require_choice(protocol, family)
    require_letters(letters, [one.task for one in task_files])
    require_teacher(teacher is not None, [one.task for one in task_files])
    not_run |= cannot_run(task_files, protocol, judge != "rule")
    task_files = [one for one in task_files if one.task.name not in not_run]
    if not task_files:
        raise UserError("; ".join(not_run.values()))
    folder = Path(output) if output is not None else default_output(model, protocol)
    options = OpenOptions(place.device, dtype, trust_remote_code, timeout, judge_key_variable)
    # Helpers load their models while this process loads its own.
    with helpers(settings, processes) as beside, shown(quiet or helps) as show:

        def watch(standing: Standing) -> None:
            show(standing)
            beside.check()

        results = evaluate(
            open_model(
                model,
                adapter,
                device=place.device,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                timeout=timeout,
                key_variable=key_variable,
            ),
            task_files,
            output_dir=folder,
            limit=limit,
            seed=seed,
            batch_size=batch_size,
            watch=watch,
            workers=workers,
            finish=not helps,
            say=say,
            not_run=not_run,
            protocol=protocol,
            family=family,
            letters=letters,
            teacher=None
            if teacher is None
            else open_model(teacher, device=place.device, dtype=dtype, trust_remote_code=trust_remote_code),
            judge=open_judge(judge, options),
        )
    if helps:
        return results
    from taid_vlm_eval.protocols.averages import averages
    from taid_vlm_eval.table import UNSCORED, print_table

    scored = {result.task for result in results}
    unscored = [one.task.name for one in task_files if one.task.name not in {*scored, *not_run}]
    if not results and not unscored and not_run:
        raise UserError("; ".join(not_run.values()))
    if as_json:
        rows = [asdict(result) for result in results]
        rows += [{"task": name, "answers_only": UNSCORED} for name in unscored]
        rows += [{"task": name, "not_run": reason} for name, reason in not_run.items()]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print_table(results, folder, not_run, unscored)
        for name, (value, parts) in averages(results, protocol).items():
            print(f"{name}: {value:.4f}, the mean of {' and '.join(parts)}")
    if not_run:
        raise UserError(f"not run: {', '.join(not_run)}; the results of the other tasks are complete")
    return results


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _with_suite(
    tasks: Sequence[str | Path | TaskFile], suite: str, tasks_folders: Sequence[str | Path]
) -> tuple[list[str | Path | TaskFile], dict[str, str]]:
    """``tasks`` and those of the suite; and why some of the suite cannot be run."""
    known = list_tasks(tasks_folders)
    wanted = [name for name in suite_tasks(suite) if name not in tasks]
    missing = {name: f"no task {name!r} here; it may be in a folder that --tasks-folder names" for name in wanted}
    found = [name for name in wanted if name in known]
    return [*tasks, *found], {name: reason for name, reason in missing.items() if name not in known}


def print_protocol(name: str, family: str | None, tasks: str) -> None:
    """Print what a protocol asks of a family, of the tasks (names between commas) or, without any, of the paper's table.

    Raises:
        UserError: no family, or see :func:`taid_vlm_eval.protocols.show.show_protocol`.
    """
    from taid_vlm_eval.protocols.show import show_protocol

    if name == DEFAULT:
        raise UserError(
            "under the protocol 'default' every task is what its own file says; --show-protocol shows the others"
        )
    if family is None:
        raise UserError(f"--family is missing; the protocol {name!r} has {', '.join(load_protocol(name).families)}")
    print(show_protocol(name, family, [one.strip() for one in tasks.split(",") if one.strip()]))


def go_offline() -> None:
    """Let neither models nor data be fetched in this process; to be called before transformers is imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"


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


def _run_command(arguments: argparse.Namespace) -> None:
    if arguments.list_tasks:
        print("\n".join(list_tasks(arguments.tasks_folder)))
        return
    if arguments.show_protocol:
        print_protocol(arguments.show_protocol, arguments.family, arguments.tasks or "")
        return
    if arguments.model is None or not (arguments.tasks or arguments.suite):
        raise UserError(
            "a model and --tasks are needed, for example: MODEL --tasks easy_vqa; --list-tasks names all tasks"
        )
    if arguments.offline:
        go_offline()
    run(
        arguments.model,
        [name.strip() for name in (arguments.tasks or "").split(",") if name.strip()],
        suite=arguments.suite,
        output=arguments.output,
        limit=arguments.limit,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        processes=arguments.processes,
        quiet=arguments.quiet,
        tasks_folders=arguments.tasks_folder,
        adapter=arguments.adapter,
        device=arguments.device,
        dtype=arguments.dtype,
        trust_remote_code=arguments.trust_remote_code,
        as_json=arguments.json,
        protocol=arguments.protocol,
        family=arguments.family,
        letters=arguments.letters,
        teacher=arguments.teacher,
        judge=arguments.judge,
        timeout=arguments.timeout,
        key_variable=arguments.key_variable,
        judge_key_variable=arguments.judge_key_variable,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 after one line on standard error when the user made a mistake."""
    try:
        _run_command(parser().parse_args(argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
