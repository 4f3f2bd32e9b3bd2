"""The benchmark of the loss runs without peers, measures, and writes what it printed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "loss.py"


@pytest.mark.slow
def test_a_quick_run(tmp_path: Path) -> None:
    out = tmp_path / "loss.json"
    command = [sys.executable, str(PROGRAM), "--quick", "--rounds", "2", "--losses", "all", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(out.read_text())
    (result,) = report["by_vocabulary"].values()
    for name in ("taid, fused", "taid, plain", "kl, fused", "kl, plain"):
        assert len(result["seconds"][name]["samples"]) == 2
        assert result["extra_bytes"][name] >= 0
        assert result["gradient_error"][name] < 1e-5
        assert f"| {name} |" in done.stdout
    # A peer is in one of the two lists: measured, or named with the reason.
    peers = {"Liger chunked", "Liger chunked, compiled", "TRL chunked", "TRL full logits", "torchtune chunked"}
    assert peers <= result["seconds"].keys() | result["not_run"].keys()
    assert all(f"| {name} |" in done.stdout for name in peers)
    assert set(report["by_loss"]) > {"taid", "dkd", "four products"}
    assert {row["met"] for row in report["targets"]} <= {True, False, None}


def test_a_gpu_that_is_not_there_is_told() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--device", "cuda"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "no CUDA device is available" in done.stderr
