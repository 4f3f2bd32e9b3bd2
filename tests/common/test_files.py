"""Files are complete or absent."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from taid_vlm.common.errors import UserError
from taid_vlm.common.files import new_folder, write_atomic


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "f.txt"
    write_atomic(target, "old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="no space left"):
        write_atomic(target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder"

    def stops_half_way() -> None:
        with new_folder(target) as temporary:
            (temporary / "a").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stops_half_way()
    assert not list(tmp_path.iterdir())
    with new_folder(target) as temporary:
        (temporary / "a").write_text("one")
    with new_folder(target) as temporary:
        (temporary / "b").write_text("two")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
