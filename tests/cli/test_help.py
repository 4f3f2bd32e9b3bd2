"""Help teaches: every command has examples that parse, and all are on the first page; names are completed."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from taid_vlm.cli import app
from taid_vlm.commands.arguments import complete_recipes, complete_strategies
from taid_vlm.commands.examples import EXAMPLES, GO_ON, PANELS
from taid_vlm.recipe import list_recipes
from taid_vlm_eval.arguments import complete_protocols, complete_suites, complete_tasks

ROOT: Any = typer.main.get_command(app)
DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def commands(group: Any = ROOT, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{path} {name}".strip())


COMMANDS = dict(commands())


def parse(words: list[str]) -> str:
    """Parse as the program does, run nothing; the path of the command that would be called."""
    command, path, parent = ROOT, [], None
    while True:
        context = command.make_context(path[-1] if path else "taid-vlm", list(words), parent=parent)
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if not hasattr(command, "commands") or not rest:
            return " ".join(path)
        name, command, words = command.resolve_command(context, rest)
        path, parent = [*path, name], context


def test_every_command_has_examples_and_every_example_a_command() -> None:
    assert set(COMMANDS) == set(EXAMPLES)
    assert set(GO_ON) <= set(COMMANDS)


@pytest.mark.parametrize("path", EXAMPLES)
def test_examples_parse_and_call_what_they_are_examples_of(path: str) -> None:
    for line in EXAMPLES[path]:
        words = shlex.split(line, comments=True)
        words = words[: words.index(">")] if ">" in words else words
        assert words[0] == "taid-vlm"
        if "COMMAND" in words:
            continue
        called = parse(words[1:])
        assert called == path or not path or called.startswith(f"{path} "), line


def test_a_wrong_example_would_be_found() -> None:
    with pytest.raises(Exception, match=r"[Nn]o such option"):
        parse(["train", "quickstart/taid", "--stpes", "3"])


@pytest.mark.parametrize("path", EXAMPLES)
def test_help_shows_examples_before_usage_and_options(path: str) -> None:
    done = CliRunner().invoke(app, [*path.split(), "--help"])
    assert done.exit_code == 0
    places = [done.output.index(text) for text in (f"  {EXAMPLES[path][0]}\n", "Usage:", "Options:")]
    assert places == sorted(places)
    assert "Examples:" in done.output
    assert "\x1b" not in done.output


def test_the_first_page_has_every_command_once_under_a_heading() -> None:
    page = CliRunner().invoke(app, ["--help"]).output
    below = page[page.index("\nStart:") :]
    assert "..." not in below  # each fits: it was not cut off
    for name in ROOT.commands:
        assert len(re.findall(rf"^  {re.escape(name)} ", below, re.MULTILINE)) == 1, name
    assert [heading for heading in PANELS if f"\n{heading}:" in page] == list(PANELS)
    assert {name for panel in PANELS.values() for name in panel} <= set(ROOT.commands)


@pytest.mark.parametrize("path", [path for path, one in COMMANDS.items() if not hasattr(one, "commands")])
def test_every_option_and_argument_says_what_it_is(path: str) -> None:
    for parameter in COMMANDS[path].params:
        assert getattr(parameter, "help", None), f"{path} {parameter.name}"


def test_docs_list_the_commands_that_print_json_and_those_that_can_be_quiet() -> None:
    text = DOCS.read_text()

    def listed(option: str) -> set[str]:
        rows = text[text.index(f"| `{option}`") :].split("\n\n")[0].splitlines()
        mine = [rows[0], *(row for row in rows[1:] if row.startswith("| |"))] if option == "--quiet" else rows[:1]
        return {name for row in mine for name in re.findall(r"`([^`]+)`", row.split("|")[2])}

    def having(option: str) -> set[str]:
        return {path for path, one in COMMANDS.items() if any(option in p.opts for p in one.params)}

    assert listed("--json") == having("--json")
    assert listed("--quiet") == having("--quiet")


def test_names_are_completed() -> None:
    assert complete_recipes("quickstart/t") == [n for n in list_recipes() if n.startswith("quickstart/t")]
    assert complete_tasks("easy_vqa,chatter") == [f"easy_vqa,{n}" for n in ("chatterbot",)]
    assert "easy_vqa,easy_vqa" not in complete_tasks("easy_vqa,")
    assert "smoke" in complete_suites("s")
    assert complete_protocols("open") == ["openvlm-2025-01", "openvlm-current"]
    assert complete_strategies("zero") == ["zero2", "zero3"]


def test_the_shell_is_given_completions() -> None:
    environment = {
        "_TAID_VLM_COMPLETE": "complete_bash",
        "COMP_WORDS": "taid-vlm train quickstart/ta",
        "COMP_CWORD": "2",
    }
    program = "from taid_vlm.cli import app; app(prog_name='taid-vlm')"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**__import__("os").environ, **environment}, capture_output=True, text=True
    )
    assert "quickstart/taid" in done.stdout.split(), done.stderr
