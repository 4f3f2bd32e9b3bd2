"""The benchmark of batchings runs, sees the same tokens and loss in each, and writes what it printed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "packing.py"


@pytest.mark.slow
def test_a_quick_run(tmp_path: Path) -> None:
    out = tmp_path / "packing.json"
    command = [sys.executable, str(PROGRAM), "--quick", "--rounds", "1", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())["batchings"]
    assert list(found) == ["padded", "grouped", "packed"]
    assert len({row["tokens"] for row in found.values()}) == 1
    for name, row in found.items():
        assert row["loss"] == pytest.approx(found["padded"]["loss"], rel=1e-4)
        assert f"| {name} | {row['tokens_per_second']:.0f} |" in done.stdout
    assert found["padded"]["filled"] < found["grouped"]["filled"] < found["packed"]["filled"] <= 1
