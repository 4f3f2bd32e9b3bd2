"""One process at a time inside a lock, whatever becomes of the others."""

import errno
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taid_vlm.common import file_lock
from taid_vlm.common.file_lock import alone, alone_or_not

HOLDS = """
import sys, time
from pathlib import Path
from taid_vlm.common.file_lock import alone
with alone(Path(sys.argv[1])):
    print("inside", flush=True)
    time.sleep(60)
"""
FORKS = """
import os, signal, sys, time
from pathlib import Path
from taid_vlm.common.file_lock import alone, alone_or_not
with alone(Path(sys.argv[1])):
    child = os.fork()
    if not child:
        time.sleep(60)
with alone_or_not(Path(sys.argv[1])) as mine:
    print(mine)
os.kill(child, signal.SIGKILL)
"""


def test_the_lock_of_a_process_that_is_killed_is_free(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "x.lock"
    command = [sys.executable, "-c", HOLDS, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "inside\n"
        with alone_or_not(lock) as mine:
            assert not mine
        other.kill()
        start = time.monotonic()
        with alone(lock):
            assert time.monotonic() - start < 10
    with alone_or_not(lock) as mine:
        assert mine
    assert lock.read_bytes() == b""


def test_a_child_that_was_forked_inside_does_not_keep_the_lock(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORKS, str(tmp_path / "x.lock")], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(file_lock.fcntl, "flock", refuses)
    with alone(tmp_path / "x.lock"), alone_or_not(tmp_path / "x.lock") as mine:
        assert mine
