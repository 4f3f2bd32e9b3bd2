"""The benchmark of evaluations runs, gives equal answers in all four ways, and writes what it printed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "eval.py"


@pytest.mark.slow
@pytest.mark.assets
def test_a_quick_run(tmp_path: Path) -> None:
    out = tmp_path / "eval.json"
    options = ["--quick", "--no-student", "--dtypes", "float32", "--threads", "1", "--out", str(out)]
    done = subprocess.run([sys.executable, str(PROGRAM), *options], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(out.read_text())
    (model,) = report["models"].values()
    assert len(model["rates"]) == 4
    for way, rate in model["rates"].items():
        assert rate["median"] > 0
        assert f"| {way} | {rate['median']:.2f} |" in done.stdout
    assert set(model["changed"].values()) == {0}
    assert report["flips"]["float32"] == {"of": 8, "changed": dict.fromkeys(model["rates"], 0)}
    assert "not measured: no interpreter with lmms-eval was given" in done.stdout
