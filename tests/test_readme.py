"""Every command of the README is run, in its order, in one folder. Only the number of steps, samples and questions is cut."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from taid_vlm.common.assets import ASSETS, asset_path, cache_folder
from taid_vlm.recipe import dump_recipe, load_recipe, recipes_folder
from taid_vlm.recipe.data_spec import DataSpec
from taid_vlm_eval.answers import read_answers

pytestmark = [pytest.mark.assets, pytest.mark.slow]
ROOT = Path(__file__).parents[1]
PICTURES = "data.train=[{kind: easy_vqa, path: 'asset:easy-vqa', limit: 64}]"
TALK = "data.{}=[{{kind: chatterbot, path: 'asset:chatterbot-corpus', split: {}, limit: 32}}]"
# What is added to a command, by how it begins.
SHORTER = {
    "taid-vlm train quickstart/taid": ["training.steps=8", "training.warmup_steps=1", "evaluation.limit=8", PICTURES],
    "taid-vlm train quickstart/kl": ["training.steps=2", "training.warmup_steps=1", "evaluation.limit=8", PICTURES],
    "taid-vlm train quickstart/language": [
        "training.steps=4",
        "training.warmup_steps=1",
        "evaluation.limit=8",
        TALK.format("train", "train"),
        TALK.format("validation", "test"),
    ],
    "taid-vlm cache quickstart/taid": [PICTURES],
    "taid-vlm launch quickstart/taid": ["training.steps=2", "training.warmup_steps=1", "evaluation.limit=8", PICTURES],
    "taid-vlm quickstart": ["training.steps=4", "training.warmup_steps=1", "evaluation.limit=8", PICTURES],
    "taid-vlm eval runs/language": ["--limit", "8"],
    "taid-vlm eval runs/taid": ["--limit", "8"],
}


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_the_first_two_commands_are_targets_of_make() -> None:
    targets = [command.split()[1] for command in commands() if command.startswith("make ")]
    assert targets[:2] == ["quickstart", "test"]
    for target in targets:
        subprocess.run(["make", "--dry-run", "--silent", target], cwd=ROOT, check=True, capture_output=True)


def test_every_command_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_a_trained_teacher(tmp_path, monkeypatch)
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "picture.png")
    ran = []
    assert "$(BIN)/taid-vlm quickstart\n" in (ROOT / "Makefile").read_text()
    for command in commands():
        if command == "make quickstart":
            command = "taid-vlm quickstart"
        if command.startswith(("make ", "source ")):
            continue
        assert command.startswith("taid-vlm "), f"a command that this test cannot run: {command}"
        words = shlex.split(command)[1:]
        words += [word for start, more in SHORTER.items() if command.startswith(start) for word in more]
        done = subprocess.run([sys.executable, "-m", "taid_vlm", *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
        ran.append(words[0])
    assert {"train", "eval", "chat", "quickstart", "export", "recipes"} <= set(ran)
    answers = [tmp_path / "evaluation" / f"taid--{kind}" / "easy_vqa.answers.jsonl" for kind in ("student", "export")]
    own, stock = (read_answers(file)[1] for file in answers)
    assert len(own) == 8
    assert own == stock
    language = tmp_path / "runs" / "language"
    assert "kl_to_teacher" in (language / "metrics.jsonl").read_text()
    assert json.loads((language / "evaluation" / "chatterbot.result.json").read_text())["metric"] == "rouge_l"


def lay_a_trained_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that shares the assets, with a run in it that looks as if the teacher had been trained before."""
    for name in ASSETS:
        asset_path(name)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache_folder() / "converted").mkdir(exist_ok=True)
    for part in ("assets", "converted"):
        (cache / part).symlink_to(cache_folder() / part)
    run = cache / "quickstart-teacher"
    shutil.copytree(recipes_folder() / "quickstart" / "teacher", run / "student")
    about = {"recipe": dump_recipe(load_recipe("quickstart/teacher")), "precision": "fp32"}
    (run / "run.json").write_text(json.dumps(about))
    monkeypatch.setenv("TAID_VLM_CACHE", str(cache))


def test_the_data_section_is_a_data_spec() -> None:
    section = (ROOT / "README.md").read_text().split("## Data and teachers")[1].split("```yaml")[1].split("```")[0]
    DataSpec.model_validate(yaml.safe_load(section)["data"])
