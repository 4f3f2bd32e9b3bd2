"""Everything in eval/README.md is done as it stands: files written, commands and programs run, tables believed."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from taid_vlm.cli import app
from taid_vlm.models import build_student, save_student
from taid_vlm.models.specs import StudentSpec
from taid_vlm_eval import load_task
from taid_vlm_eval.cli import main
from taid_vlm_eval.metrics import METRICS, SCORERS, exact_match, rouge_l, wilson_interval
from taid_vlm_eval.suites import SUITES
from tests.tiny.data import write_chatterbot, write_easy_vqa

ROOT = Path(__file__).parents[2]
README = (ROOT / "eval" / "README.md").read_text(encoding="utf-8")
DOCS = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    """Blocks of a kind, but those that say what they need."""
    return re.findall(rf"(?<!-->\n)```{kind}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language_model: Path) -> Path:
    """A working folder as the README takes it to be: a trained student, assets in the cache, the files of its own task."""
    content: dict[str, Any] = {"language_model": {"source": str(language_model)}, "projector": {"name": "mlp"}}
    content |= {"vision_encoder": {"library": "timm", "name": "test_resnet", "weights": "random", "image_size": 64}}
    spec = StudentSpec.model_validate({**content, "image_token": "<empty_output>"})
    for name in ("taid", "sft"):
        save_student(*build_student(spec), spec, tmp_path / "runs" / name / "student")
    write_easy_vqa(tmp_path / "cache" / "assets" / "easy-vqa-1.0", 1, 8)
    write_chatterbot(tmp_path / "cache" / "assets" / "chatterbot-corpus-1.3.3")
    for name, text in re.findall(r"^<!-- file: ([\w/.]+) -->\n```(?:yaml|json)\n(.*?)```", README, re.DOTALL | re.M):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    Image.new("RGB", (8, 8)).save(tmp_path / "tasks" / "pets" / "cat.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # as --offline would leave it
    return tmp_path


def test_every_command_works(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 8
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:3] == ["python", "-m", "taid_vlm_eval"]:
            assert main(words[3:]) == 0, capsys.readouterr().err
        else:
            assert words[0] == "taid-vlm"
            done = CliRunner().invoke(app, words[1:])
            assert done.exit_code == 0, (line, done.output, done.exception)
    for folder, names in {
        "evaluation/taid--student": ["chatterbot", "easy_vqa", "pets"],
        "evaluation/sft--student": ["chatterbot", "easy_vqa"],
        "results/taid": ["easy_vqa"],
    }.items():
        found = sorted(path.name for path in (place / folder).iterdir())
        assert found == sorted(f"{name}.{end}" for name in names for end in ("answers.jsonl", "result.json"))
    page = (place / "compare.html").read_text()
    assert "easy_vqa: taid--student and sft--student" in page


def test_every_program_works(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for program in blocks("python"):
        exec(program, {})
    assert len(capsys.readouterr().out.split()) == 3
    assert (place / "results" / "python" / "easy_vqa.result.json").is_file()


def test_what_it_says_of_scorers_is_true() -> None:
    assert exact_match("The answer is red.", "red") == 1.0
    assert exact_match("red or blue", "red") == 0.0
    assert rouge_l("the cat sat", "the cat sat down") == pytest.approx(0.857, abs=5e-4)
    assert wilson_interval(9, 10) == pytest.approx((0.596, 0.982), abs=5e-4)
    for name in {*SCORERS, *METRICS}:
        assert name in README


def test_the_example_names_every_key_and_those_that_may_be_left_out(place: Path) -> None:
    path = place / "tasks" / "pets.yaml"
    task = load_task(path).task
    from dataclasses import asdict

    for key, value in asdict(task).items():
        for name in [key, *(value if isinstance(value, dict) else ())]:
            shown = re.search(rf"^ *{name}:", path.read_text(), re.MULTILINE)
            # What only tables need is told elsewhere.
            assert shown or (key in ("data", "style") and f"| `{name}` |" in DOCS), name
    short = re.sub(
        r"^(prompt|  prefix|  suffix|  split|  greedy|cluster|protocol|mode):.*\n", "", path.read_text(), flags=re.M
    )
    assert len(short.splitlines()) == len(path.read_text().splitlines()) - 8
    path.write_text(short)
    assert load_task(path).task.data == task.data


def test_the_suites_are_listed() -> None:
    for name, tasks in SUITES.items():
        (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", DOCS, re.MULTILINE)
        assert re.findall(r"`(\w+)`", row) == list(tasks)
