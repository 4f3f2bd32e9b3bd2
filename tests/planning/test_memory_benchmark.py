"""The program that sets planned beside measured memory runs, and a plan of a tiny model is near its run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.tiny.language_model import save_tiny_llama
from tests.tiny.recipes import tiny_recipe

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "memory.py"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is measured on Linux only")
def test_planned_beside_measured(tmp_path: Path, easy_vqa: Path) -> None:
    recipe = tiny_recipe(save_tiny_llama(tmp_path / "llama", vocabulary=30_000, hidden=256), easy_vqa)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    out = tmp_path / "memory.json"
    command = [sys.executable, str(PROGRAM), str(tmp_path / "tiny.yaml"), "--steps", "3", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    assert "planned MiB" in done.stdout
    (row,) = json.loads(out.read_text())
    assert row["ratio"] == pytest.approx(1, abs=0.15)
