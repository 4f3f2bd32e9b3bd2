"""Text of data, models, servers and files is shown on a terminal; it moves no cursor, sets no title and fills no clipboard."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from taid_vlm.common.errors import UserError
from taid_vlm.common.telling import for_terminal, tell
from taid_vlm.common.visible import visible
from taid_vlm.models import LoadedStudent
from taid_vlm_eval.runner import evaluate
from taid_vlm_eval.table import print_table
from tests.eval.fakes import FakeModel, task_content, write_task
from tests.security.commands import run
from tests.test_chat import save

# Clear the screen, set the title, fill the clipboard, an eight-bit CSI, backspaces, a carriage return, a right-to-left override.
EVIL = "a\x1b[2J\x1b]0;title\x07\x1b]52;c;cm0=\x07\x9b31m\b\b\r\u202eb"
OBEYED = set(map(chr, [*range(9), *range(11, 32), *range(127, 160)])) | {"\u202e", "\u2066", "\u2028"}


def harmless(said: str) -> bool:
    return not OBEYED & set(said)


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert harmless(for_terminal(text))
    assert harmless(visible(text))


def test_it_can_still_be_read() -> None:
    assert for_terminal("été\n\t日本 🙂") == "été\n\t日本 🙂"
    assert visible(EVIL).startswith(r"a\x1b[2J\x1b]0;title\x07")


def test_errors_quote_data_harmlessly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({EVIL: 1, "student": {EVIL: 2}}))
    for command in (
        ("plan", str(tmp_path / "r.yaml")),
        ("plan", f"{tmp_path}/{EVIL}"),
        ("chat", EVIL),
        ("eval", EVIL, "--tasks", "x"),
    ):
        assert run(monkeypatch, *command) == 1
        said = capfd.readouterr()
        assert "error: " in said.err
        assert harmless(said.err + said.out)


def test_what_a_model_says_in_a_chat(
    tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LoadedStudent, "generate", lambda *_: [f"{EVIL}\nsecond line"])
    assert run(monkeypatch, "chat", save(tmp_path, language_model, False), "--prompt", "?") == 0
    said = capfd.readouterr().out
    assert harmless(said)
    assert said.splitlines()[-1] == "second line"


def test_the_table_of_an_evaluation(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": f"{n}{EVIL}", "question": EVIL, "answer": "red", "images": [f"{EVIL}.png"]} for n in range(3)
    ]
    (tmp_path / "small.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = write_task(tmp_path, **task_content(description=EVIL))
    results = evaluate(FakeModel(name=EVIL), [task], output_dir=tmp_path / "out")
    from taid_vlm_eval.results import Results

    console = Console(record=True, width=200, color_system=None, force_terminal=False)
    with console.capture() as captured:
        print_table(Results(results), console)
    said = captured.get()
    assert "item 0a" in said
    assert harmless(said)
    assert harmless(Results(results).to_json())


def test_what_a_user_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    tell(str(UserError(EVIL)))
    assert harmless(capfd.readouterr().err)
