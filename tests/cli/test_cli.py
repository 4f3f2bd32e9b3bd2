"""The commands as a user types them: train, eval, chat; a mistake is one message and a non-zero status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from taid_vlm.cli import main
from tests.process import run
from tests.tiny.recipes import tiny_recipe

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_train_eval_and_chat(tmp_path: Path, language_model: Path, easy_vqa: Path) -> None:
    recipe = tiny_recipe(language_model, easy_vqa).model_dump(mode="json")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    done = run("train", "tiny.yaml", "training.steps=4", "--output", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    picture = easy_vqa / "easy_vqa" / "data" / "test" / "images" / "0.png"
    done = run("chat", "run/student", "--image", str(picture), "--prompt", "what color?", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture.read_bytes()[:30])
    done = run("chat", "run/student", "--image", str(broken), "--prompt", "what color?", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "broken.png" in done.stderr
    done = run("eval", "run/student", "--tasks", "easy_vqua", cwd=tmp_path)
    assert done.returncode == 1
    assert "easy_vqa" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "quickstart/tadi"], "quickstart/taid"),
        (["train", "quickstart/taid", "loss.alfa=1"], "did you mean 'alpha'"),
        (["train", "quickstart/taid", "training.steps"], "not of the form"),
        (["train", "missing.yaml"], "recipe not found"),
        (["train", "quickstart/sft", "training.trackers=[wandbb]"], "did you mean 'wandb'"),
        (["chat", "nowhere", "--prompt", "hi"], "not a saved student"),
    ],
)
def test_a_mistake_is_one_message_without_a_traceback(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "terminal", "disabled"), [("train", 1, "1"), ("bridge", 1, None), ("bridge", 0, "1")]
)
def test_libraries_draw_no_bars_beside_ours(
    monkeypatch: pytest.MonkeyPatch, command: str, terminal: int, disabled: str | None
) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "")
    monkeypatch.delenv("TQDM_DISABLE")
    monkeypatch.setattr(sys, "argv", ["taid-vlm", command])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: bool(terminal))
    monkeypatch.setattr("taid_vlm.cli._run", lambda: None)
    main()
    assert os.environ.get("TQDM_DISABLE") == disabled


def test_tqdm_reads_what_the_command_line_sets() -> None:
    # When it is imported, so nothing that the command line imports may import it.
    program = "import taid_vlm.cli, os, sys\nassert 'tqdm' not in sys.modules\nos.environ['TQDM_DISABLE'] = '1'\n"
    program += "import tqdm\nassert tqdm.tqdm(total=1).disable"
    subprocess.run([sys.executable, "-c", program], check=True)
