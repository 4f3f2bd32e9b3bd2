"""Commands of the pages: what a line asks of which program, checked by that program's own parser without running it."""

import re
import shlex
from dataclasses import dataclass
from typing import Any

import typer

from taid_vlm.cli import app
from taid_vlm.export.targets import TARGETS
from taid_vlm.launch.strategies import STRATEGIES
from taid_vlm.recipe import load_recipe
from taid_vlm_eval.command import evaluate_command
from taid_vlm_eval.suites import SUITES
from taid_vlm_eval.task_files import list_tasks
from tests.docs.pages import ROOT, Block

SHELLS = ("sh", "bash", "console", "shell")
OURS = re.compile(r"^(taid-vlm|python|make|pip|accelerate|torchrun|vllm|lm_eval|hf|transformers) ")
STANDS_FOR_A_RECIPE = "quickstart/taid"  # where a page writes RECIPE, or a file that its reader has
APART = {
    "vllm",
    "lm_eval",
    "hf",
    "transformers",
    "pre-commit",
    "llama-mtmd-cli",
    "curl",
    "do",
    "for",
    "mkdir",
    "cd",
    "export",
    "source",
}


@dataclass(frozen=True)
class Command:
    """A line of a block, without its comment, lines that go on joined."""

    block: Block
    text: str

    @property
    def words(self) -> list[str]:
        """As a shell splits it."""
        return shlex.split(self.text)

    def __str__(self) -> str:
        return f"{self.block}: {self.text}"


def commands_of(block: Block) -> list[Command]:
    """Commands of a block of shell."""
    whole = re.sub(r" *\\\n *", " ", block.text)
    lines = [re.split(r"(?:^|\s{2,})#", line)[0].strip() for line in whole.splitlines()]
    return [Command(block, line) for line in lines if line]


def check(text: str) -> None:
    """Parse a command as its program would; nothing is run.

    Raises:
        AssertionError, UserError: what does not exist.
    """
    for inner in re.findall(r"\$\(([^)]*)\)", text):
        check(inner)
    words = shlex.split(re.sub(r"\$\([^)]*\)", "FILE", text))
    program, rest = words[0], words[1:]
    if program == "taid-vlm":
        _check_ours(rest)
    elif " -m taid_vlm " in text:  # accelerate launch ... -m taid_vlm train RECIPE
        _check_ours(rest[rest.index("taid_vlm") + 1 :])
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"no target {rest[0]}"
    elif program == "pip":
        _check_extras(text)
    elif program == "python":
        _check_python(rest)
    else:
        assert program in APART or re.match(r"\w+=", program), f"a program that no test knows: {program}"


def _check_ours(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    context = command.make_context("taid-vlm", [], resilient_parsing=True)
    while hasattr(command, "commands"):
        if words and words[0].startswith("--"):
            assert words[0] in {name for one in command.get_params(context) for name in one.opts}, words[0]
            return
        assert set(words[:1]) & set(command.commands), f"no command {words[:1]}"
        command, words = command.commands[words[0]], words[1:]
        if not hasattr(command, "commands"):
            context = _parsed(command, words, context)
    _check_values(context.params)


def _parsed(command: Any, words: list[str], parent: Any = None) -> Any:
    try:
        return command.make_context(command.name or "", list(words), parent=parent)
    except Exception as error:  # of typer's own copy of click, or of click
        raise AssertionError(str(getattr(error, "message", error))) from error


def _check_alone(words: list[str]) -> None:
    alone = typer.Typer()
    alone.command()(evaluate_command)
    _check_values(_parsed(typer.main.get_command(alone), words).params)


def _check_values(given: dict[str, Any]) -> None:
    if recipe := given.get("recipe"):
        if recipe == "RECIPE" or (recipe.endswith(".yaml") and not (ROOT / recipe).is_file()):
            recipe = STANDS_FOR_A_RECIPE
        load_recipe(recipe, given.get("overrides") or [])
    named = given.get("tasks") or []
    tasks = named.split(",") if isinstance(named, str) else named
    unknown = [name for name in tasks if name not in {*list_tasks(), *SUITES} and not name.endswith(".yaml")]
    assert given.get("tasks_folder") or not unknown, f"no tasks {unknown}"
    assert given.get("suite") in {None, *SUITES}, given["suite"]
    assert given.get("strategy") in {None, *STRATEGIES}, given["strategy"]
    assert given.get("to") in {None, "auto", "language_model", "custom", *TARGETS}, given["to"]


def _check_extras(text: str) -> None:
    offered = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    for named in re.findall(r"taid-vlm\[([\w,-]+)\]|\.\[([\w,-]+)\]", text):
        for extra in "".join(named).split(","):
            assert re.search(rf"^{extra} = \[", offered, re.MULTILINE), f"no extra {extra}"


def _check_python(words: list[str]) -> None:
    if words[0] == "-m":
        module = words[1]
        if module == "taid_vlm_eval":
            _check_alone(words[2:])
        else:
            assert module in {"lmms_eval", "pytest", "venv"}, module
        return
    script = ROOT / words[0]
    assert script.is_file(), f"no program {words[0]}"
    for option in (word for word in words[1:] if word.startswith("--")):
        assert f'"{option}"' in script.read_text(), f"{words[0]} has no {option}"
