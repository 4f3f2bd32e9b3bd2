"""The pages are followed word for word in one folder, over tiny models: commands, Python, and the files that they say to write."""

import contextlib
import io
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.commands import SHELLS, commands_of
from tests.docs.pages import Block, blocks, blocks_of
from tests.docs.room import ELSEWHERE, PAGES, Room, blocks_to_do, furnished, runs_in_the_room

pytestmark = pytest.mark.slow
SHELL_ITSELF = ("source ", "make ")  # the environment is there, and test_page_commands.py knows the targets


def do(block: Block, room: Room, typed: set[str]) -> str:
    """Do what a block says, but for commands that were typed before; returns what was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if "file" in block.marks:
            room.write(block)
        elif block.language == "python" and "run" in block.marks:
            exec(compile(block.text, str(block), "exec"), {"__name__": "page"})
        elif block.language in SHELLS and runs_in_the_room(block):
            for command in commands_of(block):
                if command.text not in typed and not command.text.startswith((*SHELL_ITSELF, *ELSEWHERE)):
                    room.type(command.words)
                typed.add(command.text)
    return printed.getvalue()


def test_every_page_can_be_followed(tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, typed = set(), set[str]()
    with furnished(tmp_path / "room", language_model, monkeypatch) as room:
        for block in blocks_to_do():
            try:
                do(block, room, typed)
            except BaseException as error:
                raise AssertionError(f"{block} cannot be followed: {block.text}") from error
            done.add(block.page)
    assert done == set(PAGES)
    for made in ("runs/taid/report.html", "preview.html", "compare.html", "runs/mine/evaluation/patterns.result.json"):
        assert (room.folder / made).is_file(), made


@pytest.mark.parametrize("page", sorted({block.page for block in blocks("text") if "printed" in block.marks}))
def test_what_a_page_says_is_printed_is_printed(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for code, shown in pairwise(blocks_of(page)):
        if "printed" in shown.marks:
            assert "run" in code.marks, str(code)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code.text, str(code), "exec"), {"__name__": "page"})
            assert re.sub(r"\s+\n", "\n", printed.getvalue()) == shown.text
