"""``taid-vlm eval`` and ``python -m taid_vlm_eval`` take the same things, hand all of them on, and say of names what is true."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from taid_vlm.cli import app
from taid_vlm_eval import cli, evaluate
from taid_vlm_eval.answering import WORKERS
from taid_vlm_eval.cli import main, run
from taid_vlm_eval.command import evaluate_command
from taid_vlm_eval.models import ADAPTERS
from taid_vlm_eval.protocols import PROTOCOLS
from taid_vlm_eval.suites import SUITES

TOOL: Any = typer.main.get_command(app)
BOTH: list[Any] = [TOOL.commands["eval"], typer.main.get_command(cli._app())]
PRINTING = {"list_tasks", "show_protocol"}  # print something and stop
HERE = {"offline"}  # of the process, set before anything is called
# A value other than the default for each option.
WORDS = {
    "suite": "vqa",
    "tasks": "easy_vqa,pope",
    "tasks_folder": ".",
    "limit": "7",
    "seed": "3",
    "batch_size": "5",
    "output": "here",
    "device": "cpu",
    "dtype": "bfloat16",
    "adapter": "student",
    "trust_remote_code": None,
    "protocol": "openvlm-current",
    "family": "internvl2",
    "letters": "likelihood",
    "teacher": "big",
    "judge": "local:judge",
    "processes": "2",
    "workers": "4",
    "timeout": "9.5",
    "key_variable": "KEY",
    "judge_key_variable": "OTHER",
    "quiet": None,
    "as_json": None,
}


def described(command: Any) -> dict[str, Any]:
    parts = ("opts", "default", "nargs", "required", "multiple", "is_flag", "help")
    return {
        one.name: {part: getattr(one, part, None) for part in parts} for one in command.params if one.name != "help"
    }


def test_the_two_commands_take_the_same() -> None:
    tool, module = map(described, BOTH)
    assert tool == module
    assert {"seed", "device", "dtype", "adapter", "trust_remote_code", "list_tasks"} <= set(tool)
    assert set(tool) == {"model", *WORDS, *PRINTING, *HERE}


def test_what_is_taken_is_what_run_and_python_take() -> None:
    taken = {"tasks_folders" if name == "tasks_folder" else name for name in described(BOTH[0])} - PRINTING - HERE
    assert taken == set(inspect.signature(run).parameters) - {"helps"}
    # A suite is a name among tasks there; processes are started by the command alone.
    assert set(inspect.signature(evaluate).parameters) == taken - {"suite", "processes", "as_json"} | {"processor"}


def test_defaults_are_one() -> None:
    options = inspect.signature(evaluate_command).parameters
    for function in (run, evaluate):
        for name, one in inspect.signature(function).parameters.items():
            if name in options and name not in ("model", "tasks"):
                assert one.default == options[name].default, (function, name)
    assert options["workers"].default == WORKERS


@pytest.mark.parametrize("start", [main, lambda argv: CliRunner().invoke(app, ["eval", *argv]).exit_code])
def test_every_option_reaches_the_call(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[Any, ...]] = []
    monkeypatch.setattr(cli, "run", lambda model, tasks, **options: called.append((model, tasks, options)))
    argv = ["some/model"]
    for name, word in WORDS.items():
        option = "--json" if name == "as_json" else f"--{name.replace('_', '-')}"
        argv += [option] if word is None else [option, word]
    assert start(argv) == 0
    ((model, tasks, options),) = called
    assert (model, tasks) == ("some/model", ["easy_vqa", "pope"])
    for name, word in WORDS.items():
        if name == "tasks":
            continue
        if name == "tasks_folder":
            assert options["tasks_folders"] == [Path(".")]
        else:
            assert str(options[name]) == (word or "True"), name


def test_help_names_what_there_is() -> None:
    text = " ".join(CliRunner().invoke(app, ["eval", "--help"]).output.split())
    for name in (*SUITES, *PROTOCOLS, *ADAPTERS):
        assert name in text
    assert text.index("Examples:") < text.index("Usage:")


def test_no_suite_has_the_name_of_a_task() -> None:
    from taid_vlm_eval import list_tasks

    assert not set(SUITES) & set(list_tasks())
