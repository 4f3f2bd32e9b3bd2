"""The benchmark of sources runs, measures every kind, and writes what it printed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from taid_vlm.data import SOURCES

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "data.py"


@pytest.mark.slow
def test_a_quick_run(tmp_path: Path) -> None:
    out = tmp_path / "data.json"
    command = [sys.executable, str(PROGRAM), "--quick", "--rounds", "1", "--teacher", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(out.read_text())
    assert set(report["by_kind"]) == set(SOURCES)
    for kind, rates in report["by_kind"].items():
        assert all(rate["median"] > 0 for rate in rates.values())
        assert f"| {kind} |" in done.stdout
