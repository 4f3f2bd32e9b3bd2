"""docs/analysis.md: what it says that a command prints is what the command prints."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taid_vlm.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "analysis.md"
SHOWN = re.findall(r"```sh\ntaid-vlm (analyze [^\n]*)\n```\n\n```text\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
QUICK = [(command, text) for command, text in SHOWN if "runs/" not in command]


def test_the_page_shows_what_needs_no_run() -> None:
    assert {command.split()[1] for command, _ in QUICK} == {"regression", "schedule"}


@pytest.mark.slow
@pytest.mark.parametrize(("command", "text"), QUICK)
def test_a_command_prints_what_the_page_shows(command: str, text: str) -> None:
    done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code == 0
    assert _rounded(done.stdout) == _rounded(text)


def _rounded(text: str) -> list[str]:
    """Words, and numbers without their last digit, which another processor may round otherwise."""
    return [word[:-1] if re.fullmatch(r"[+-]?\d+\.\d{2,}", word) else word for word in text.split()]


def test_every_command_of_the_group_has_a_section() -> None:
    text = PAGE.read_text()
    shown = CliRunner().invoke(app, ["analyze", "--help"]).output
    names = re.findall(r"^  (\w+) ", shown[shown.index("Commands:") :], re.MULTILINE)
    assert set(names) == {"regression", "mass", "schedule", "variance", "gap"}
    assert all(f"\n## {name}\n" in text for name in names)
