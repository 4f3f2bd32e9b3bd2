"""``taid-vlm`` as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = [sys.executable, "-m", "taid_vlm"]


def run(*arguments: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """``taid-vlm ARGUMENTS`` in a folder, whatever its status."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
    )


def output_of(*arguments: str, cwd: Path) -> str:
    """What it prints; it must succeed."""
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
