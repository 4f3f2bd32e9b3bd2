"""One process at a time inside a lock, whatever becomes of the others."""

import subprocess
import sys
import time
from pathlib import Path

from taid_vlm.common.file_lock import alone, alone_or_not

HOLDS = """
import sys, time
from pathlib import Path
from taid_vlm.common.file_lock import alone
with alone(Path(sys.argv[1])):
    print("inside", flush=True)
    time.sleep(60)
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
