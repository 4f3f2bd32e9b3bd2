"""Files are complete or absent."""

import errno
import os
import subprocess
import sys
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


def test_a_folder_is_on_the_disk_and_readable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = [], os.fsync

    def note(handle: int) -> None:
        assert not (tmp_path / "folder").exists()
        synced.append(os.fstat(handle).st_ino)
        fsync(handle)

    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "below").mkdir()
        files = [temporary / "a", *(temporary / "below" / str(number) for number in range(40))]
        for file in files:
            file.touch(0o600)
        inodes = [file.stat().st_ino for file in files]
        monkeypatch.setattr(os, "fsync", note)
        monkeypatch.setattr("taid_vlm.common.files.fsync_folder", lambda folder: None)
    assert sorted(synced) == sorted(inodes)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "folder").rglob("*") if file.is_file()} == {0o644}


@pytest.mark.parametrize(
    "write",
    [
        "torch.save(big, folder / 'state.pt')",
        "safetensors.torch.save_file({'big': big}, folder / 'model.safetensors')",
        "(folder / 'text').write_bytes(bytes(big.nbytes))",
    ],
)
def test_a_full_disk_is_told_by_every_writer(tmp_path: Path, write: str) -> None:
    # A limit on the size of files is the full disk that needs no rights to make.
    program = f"""
import resource, safetensors.torch, torch
from pathlib import Path
from taid_vlm.common.errors import UserError
from taid_vlm.common.files import new_folder
big = torch.zeros(2**20)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    with new_folder(Path({str(tmp_path)!r}) / "target") as folder:
        {write}
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "no space left while writing target" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())
