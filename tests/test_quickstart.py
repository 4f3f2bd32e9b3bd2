"""The quickstart on the real weights and data, cut short: every part runs, a second call does nothing twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from taid_vlm.quickstart import _forget

pytestmark = [pytest.mark.assets, pytest.mark.slow]
SHORT = [
    "training.steps=24",
    "training.warmup_steps=2",
    "evaluation.limit=24",
    "data.train=[{kind: easy_vqa, path: 'asset:easy-vqa', limit: 96}]",
]


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-m", "taid_vlm", *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart")
    run("quickstart", *SHORT, cwd=folder)
    return folder


def test_it_leaves_a_table_pictures_and_students(finished: Path) -> None:
    output = finished / "runs" / "quickstart"
    rows = {row["name"]: row for row in json.loads((output / "table.json").read_text())}
    assert list(rows) == ["teacher", "sft", "kl", "taid"]
    assert all(0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 for row in rows.values())
    assert rows["teacher"]["accuracy"] > 0.8
    assert rows["teacher"]["parameters"] > 3 * rows["taid"]["parameters"]
    for name in ("training.png", "examples.png"):
        with Image.open(output / name) as image:
            image.load()
            assert image.width > 500
    for name in ("sft", "kl", "taid"):
        log = [json.loads(line) for line in (output / name / "metrics.jsonl").read_text().splitlines()]
        assert sum(r["cross_entropy"] for r in log[-4:]) < 0.7 * sum(r["cross_entropy"] for r in log[:4])


def test_a_second_call_trains_nothing(finished: Path) -> None:
    weights = finished / "runs" / "quickstart" / "taid" / "student" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    table = (finished / "runs" / "quickstart" / "table.json").read_text()
    run("quickstart", *SHORT, cwd=finished)
    assert weights.stat().st_mtime_ns == before
    assert (finished / "runs" / "quickstart" / "table.json").read_text() == table


def test_the_student_can_be_asked(finished: Path) -> None:
    picture = finished / "green.png"
    Image.new("RGB", (64, 64), (0, 160, 0)).save(picture)
    student = "runs/quickstart/taid/student"
    assert run("chat", student, "--image", str(picture), "--prompt", "what color is the shape?", cwd=finished).strip()


def test_a_restart_removes_only_what_a_quickstart_wrote(tmp_path: Path) -> None:
    (tmp_path / "sft").mkdir()
    (tmp_path / "table.json").write_text("[]")
    (tmp_path / "thesis.tex").write_text("years of work")
    _forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
