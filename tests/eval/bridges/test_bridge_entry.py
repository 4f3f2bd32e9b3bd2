"""What other harnesses and the command line load of the bridges: little, and with a line that says what is missing."""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taid_vlm.cli import app
from taid_vlm.common.errors import UserError

ROOT = Path(__file__).parents[3]


def entry_point() -> str:
    text = (ROOT / "pyproject.toml").read_text()
    (line,) = (one for one in text.splitlines() if one.startswith("taid_vlm = "))
    assert '[project.entry-points."lmms_eval.models"]\n' + line in text
    return line.split('"')[1]


def test_the_entry_point_names_a_callable_and_loads_nothing_heavy() -> None:
    module, name = entry_point().split(":")
    assert callable(getattr(import_module(module), name))
    heavy = ("torch", "transformers", "numpy", "lmms_eval", "lm_eval")
    code = f"import sys, {module}, taid_vlm_eval.bridges.command; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm-evaluation-harness is installed")
def test_a_missing_harness_is_told_before_a_model_is_loaded() -> None:
    done = CliRunner().invoke(app, ["bridge", "lm-eval", "no/such/model", "--tasks", "arc_easy"])
    assert isinstance(done.exception, UserError)
    assert "pip install 'taid-vlm[lm-eval]'" in str(done.exception)
