"""The quickstart on the real weights and data, cut short: every part runs, a second call does nothing twice."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from taid_vlm import quickstart as module
from taid_vlm.common.errors import UserError
from taid_vlm.quickstart import STUDENTS, _forget, quickstart, student_recipes
from taid_vlm.recipe import Recipe, dump_recipe
from tests.process import output_of

pytestmark = [pytest.mark.assets, pytest.mark.slow]
SHORT = [
    "training.steps=24",
    "training.warmup_steps=2",
    "evaluation.limit=24",
    "data.train=[{kind: easy_vqa, path: 'asset:easy-vqa', limit: 96}]",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart")
    output_of("quickstart", *SHORT, cwd=folder)
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
    output_of("quickstart", *SHORT, cwd=finished)
    assert weights.stat().st_mtime_ns == before
    assert (finished / "runs" / "quickstart" / "table.json").read_text() == table


def test_the_student_can_be_asked(finished: Path) -> None:
    picture = finished / "green.png"
    Image.new("RGB", (64, 64), (0, 160, 0)).save(picture)
    student = "runs/quickstart/taid/student"
    assert output_of(
        "chat", student, "--image", str(picture), "--prompt", "what color is the shape?", cwd=finished
    ).strip()


def test_a_restart_removes_only_what_a_quickstart_wrote(tmp_path: Path) -> None:
    (tmp_path / "sft").mkdir()
    (tmp_path / "table.json").write_text("[]")
    (tmp_path / "thesis.tex").write_text("years of work")
    _forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


class TrainedError(Exception):
    """Stands for the half hour that training takes."""


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where training would have begun; the first training ends the call."""
    begun: list[Path] = []

    def train(recipe: Recipe, run_dir: Path, store: object, origin: dict[str, object]) -> Path:
        assert str(origin["recipe"]).startswith("quickstart/")
        begun.append(run_dir)
        raise TrainedError

    monkeypatch.setattr(module, "_train", train)
    return begun


@pytest.mark.parametrize(("every", "measured"), [("evaluation.every=12", True), ("seed=0", False)])
def test_students_are_measured_in_training_as_the_recipe_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: str, measured: bool
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("taid_vlm.training.loop.train", lambda *args, **options: seen.append(options["evaluate"]))
    recipe = student_recipes([every, "evaluation.during.limit=5"] if measured else [], module.SHIPPED_TEACHER)["taid"]
    module._train(recipe, tmp_path / "taid", None)
    assert [one is not None for one in seen] == [measured]
    if measured:
        assert ([one.task.name for one in seen[0].tasks], seen[0].limit, seen[0].name) == (["easy_vqa"], 5, "taid")


def finish(run_dir: Path, recipe: Recipe) -> None:
    """As a finished run of ``recipe`` lies there."""
    (run_dir / "student").mkdir(parents=True)
    (run_dir / "run.json").write_text(json.dumps({"recipe": dump_recipe(recipe), "precision": "fp32"}))


def test_students_of_an_own_teacher_lie_beside_those_of_the_shipped_one(
    tmp_path: Path, no_training: list[Path]
) -> None:
    for name, recipe in student_recipes([], module.SHIPPED_TEACHER).items():
        finish(tmp_path / name, recipe)
    with pytest.raises(TrainedError):
        quickstart(tmp_path, [], train_teacher=True)
    assert [path.name for path in no_training] == ["quickstart-teacher"]


@pytest.mark.parametrize("train_teacher", [False, True])
def test_a_run_in_the_way_is_told_before_anything_is_trained(
    tmp_path: Path, no_training: list[Path], train_teacher: bool
) -> None:
    output = tmp_path / "own-teacher" if train_teacher else tmp_path
    finish(output / "taid", student_recipes(["seed=7"], module.SHIPPED_TEACHER)["taid"])
    told = re.escape(f"{output / 'taid'} holds a run of another recipe") + r".*\(--restart does\)"
    with pytest.raises(UserError, match=told):
        quickstart(tmp_path, [], train_teacher)
    (output / "taid" / "run.json").unlink()
    with pytest.raises(UserError, match=r"holds no run; choose another --output$"):
        quickstart(tmp_path, [], train_teacher)
    assert no_training == []


@pytest.mark.parametrize(
    ("tasks", "message"), [("typo", "unknown task 'typo'"), ("chatterbot", "about easy_vqa; add it")]
)
def test_a_mistake_in_the_tasks_is_told_before_anything_is_trained(
    tmp_path: Path, no_training: list[Path], tasks: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        quickstart(tmp_path, [f"evaluation.tasks=[{tasks}]"])
    assert no_training == []


def test_what_is_said_of_the_teacher_does_not_concern_the_student_without_one() -> None:
    recipes = student_recipes(["teacher.cache.enabled=false", "seed=3"], module.SHIPPED_TEACHER)
    assert recipes["sft"].teacher is None
    assert [recipes[name].seed for name in STUDENTS] == [3, 3, 3]
    for name in ("kl", "taid"):
        teacher = recipes[name].teacher
        assert teacher is not None
        assert (teacher.checkpoint, teacher.cache.enabled) == (module.SHIPPED_TEACHER, False)
