"""What a shell sees: exit statuses, Ctrl-C, no colour codes in pipes, nothing but the result with --quiet and --json."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from taid_vlm.commands.examples import GO_ON
from taid_vlm.commands.quiet import quietly
from taid_vlm.commands.teaching import CommandStoppedError, teach
from taid_vlm.common.stopping import INTERRUPTED, RESUMABLE, TERMINATED
from tests.process import PROGRAM, run
from tests.terminal import read_terminal
from tests.tiny.recipes import distil, tiny_recipe

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--version"], 0), (["recipes", "show", "nothing"], 1), (["train", "--nope"], 2), (["nope"], 2), (["plan"], 2)],
)
def test_exit_statuses(tmp_path: Path, arguments: list[str], status: int) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == status
    assert (done.stdout == "") == (status != 0)
    assert "Traceback" not in done.stderr


def test_docs_name_the_statuses() -> None:
    told = {int(number) for number in re.findall(r"^\| (\d+) \|", DOCS.read_text(), re.MULTILINE)}
    assert told == {0, 1, 2, RESUMABLE, INTERRUPTED, TERMINATED}


@pytest.mark.parametrize(("name", "kept"), [("eval", True), ("export", False)])
def test_ctrl_c_says_how_to_go_on(name: str, kept: bool) -> None:
    app = typer.Typer()

    def interrupted(value: str = "") -> None:
        raise KeyboardInterrupt

    app.command(name)(interrupted)
    app.command("other")(lambda: None)
    teach(app)
    with pytest.raises(CommandStoppedError, match="goes on from there" if kept else "starts anew"):
        app([name], standalone_mode=False)
    assert (name in GO_ON) == kept


def test_ctrl_c_in_a_real_process(tmp_path: Path) -> None:
    """chat waits for a question; the signal finds it there."""
    code = (
        "import signal, sys, taid_vlm.chat, taid_vlm.cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background of a shell
        "def wait(*_, **__):\n    print('waiting', flush=True)\n    import time; time.sleep(300)\n"
        "taid_vlm.chat.chat = wait\nsys.argv = ['taid-vlm', 'chat', 'x']\ntaid_vlm.cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == INTERRUPTED
    assert errors.strip() == "stopped: nothing was kept; the same command starts anew"


def on_terminal(arguments: list[str], cwd: Path, **environment: str) -> str:
    """What is written to a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=cwd,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", **environment},
    ) as process:
        os.close(theirs)
        said = read_terminal(ours)
        process.wait(timeout=120)
    os.close(ours)
    return said.decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-8]|4[0-8]|9[0-7])[0-9;]*m")


@pytest.mark.slow
def test_colours_are_for_terminals_alone(tmp_path: Path) -> None:
    arguments = ["doctor", "--offline"]
    without = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    piped = subprocess.run([*PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True, env=without)
    assert piped.returncode == 0, piped.stderr
    assert "\x1b" not in piped.stdout + piped.stderr
    assert "\x1b[1m" in on_terminal(arguments, tmp_path)  # bold headings: the terminal is seen as one
    assert not COLOUR.search(on_terminal(arguments, tmp_path, NO_COLOR="1"))


def test_quietly_drops_what_is_printed_and_not_what_is_raised(capfd: pytest.CaptureFixture[str]) -> None:
    def tell() -> None:
        with quietly():
            print("out")
            print("error", file=sys.stderr)
            raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        tell()
    with quietly(output=False):
        print("kept")
        print("dropped", file=sys.stderr)
    with quietly(False):
        print("as ever")
    assert capfd.readouterr() == ("kept\nas ever\n", "")


@pytest.mark.slow
def test_quiet_commands_print_the_result_alone(tmp_path: Path, language_model: Path, easy_vqa: Path) -> None:
    recipe: dict[str, Any] = tiny_recipe(language_model, easy_vqa).model_dump(mode="json")
    recipe["training"] |= {"steps": 2, "trackers": []}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    done = run("train", "tiny.yaml", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "runs/tiny/student\n"), done.stderr
    content = distil(language_model, easy_vqa, tmp_path / "runs/tiny/student").model_dump(mode="json")
    (tmp_path / "taught.yaml").write_text(yaml.safe_dump(content))
    done = run("cache", "taught.yaml", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert set(told) == {"folder", "form", "samples", "answer_tokens", "bytes"}
    assert Path(told["folder"]).is_dir()
    assert told["samples"] > 0
    done = run("cache", "taught.yaml", "--quiet", cwd=tmp_path)
    assert done.stdout == f"{told['folder']}\n", done.stderr


def test_recipes_as_json(tmp_path: Path) -> None:
    listed = run("recipes", "ls", cwd=tmp_path).stdout.splitlines()
    rows = json.loads(run("recipes", "ls", "--json", cwd=tmp_path).stdout)
    assert [" ".join(line.split()) for line in listed] == [
        " ".join(filter(None, (row["name"], row["description"]))) for row in rows
    ]
    described = {row["name"]: row["description"] for row in rows}
    assert "TAID" in described["quickstart/taid"]
    assert described["quickstart/student"] is None  # a base, no recipe by itself
